//! The pages of the manual: (1) every command, (5) the configuration file, (8) the service.
//!
//! Contract: what a command and a key are, the model of the command line and the documentation of the
//! keys say; only what neither knows is written here. The pages name no date but that of the release, so
//! that two builds are alike.

use clap::{Command, CommandFactory as _, ValueEnum};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::Arguments;
use crate::config::{Config, DEFAULT_PINS, DEFAULT_STORE};

/// When the release was made that the pages are of.
const DATE: &str = "2026-11-26";
const SOURCE: &str = concat!("smtpflow ", env!("CARGO_PKG_VERSION"));
/// Where the package has the configuration.
const CONFIG: &str = "/etc/smtpflow/config.toml";

/// A page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// The commands
    #[default]
    #[value(name = "smtpflow.1")]
    Commands,
    /// The configuration file
    #[value(name = "smtpflow.toml.5")]
    Configuration,
    /// The service
    #[value(name = "smtpflow-run.8")]
    Service,
}

impl Page {
    /// Its source.
    pub fn render(self) -> String {
        match self {
            Self::Commands => commands(),
            Self::Configuration => configuration(),
            Self::Service => service(),
        }
    }
}

/// Its head, and its first section.
fn begin(title: &str, section: &str, manual: &str, about: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("TH", [title, section, DATE, SOURCE, manual]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{title} - {about}"))]);
    roff
}

fn section(roff: &mut Roff, name: &str) {
    roff.control("SH", [name]);
}

/// A paragraph, in which what is between backticks is bold.
fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    line(roff, text);
}

fn line(roff: &mut Roff, text: &str) {
    let parts = text.split('`').enumerate();
    let inlines: Vec<Inline> = parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(i, part)| if i % 2 == 0 { roman(part) } else { bold(part) })
        .collect();
    roff.text(inlines);
}

/// A word, and what it means.
fn item(roff: &mut Roff, word: Vec<Inline>, text: &str) {
    roff.control("TP", []);
    roff.text(word);
    line(roff, text);
}

fn items(roff: &mut Roff, list: &[(&str, &str)]) {
    for (word, text) in list {
        item(roff, vec![bold(*word)], text);
    }
}

const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "The command line is wrong."),
    (
        "69",
        "A service or a resource is not to be had: a port in use, another XDP program, other tables.",
    ),
    ("77", "No permission."),
    ("78", "The configuration is wrong."),
];

const PAGES: [(&str, &str); 3] = [
    ("smtpflow", "1"),
    ("smtpflow.toml", "5"),
    ("smtpflow-run", "8"),
];

fn see_also(roff: &mut Roff, but: &str) {
    section(roff, "SEE ALSO");
    let mut inlines = Vec::new();
    for (name, section) in PAGES.iter().filter(|(name, _)| *name != but) {
        inlines.extend([bold(*name), roman(format!("({section}), "))]);
    }
    inlines.extend([
        bold("ip-link"),
        roman("(8), "),
        bold("bpftool"),
        roman("(8)"),
    ]);
    roff.text(inlines);
}

/// smtpflow(1).
fn commands() -> String {
    let root = Arguments::command();
    let about = root
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let about = about.trim_end_matches('.');
    let mut roff = begin("smtpflow", "1", "User Commands", &lower(about));
    section(&mut roff, "SYNOPSIS");
    roff.text([
        bold("smtpflow"),
        roman(" ["),
        italic("OPTIONS"),
        roman("] "),
        italic("COMMAND"),
        roman(" ..."),
    ]);
    section(&mut roff, "DESCRIPTION");
    line(
        &mut roff,
        "An XDP program counts TCP connections, packets and bytes to and from mail ports for each source, \
         inside the kernel, and touches no packet. `smtpflow run`, the service, reads these counts every few \
         seconds, keeps history, says which of the own hosts send mail like a spammer, and serves all of \
         it over HTTP. The other commands ask a running agent, or read its store without one.",
    );
    section(&mut roff, "OPTIONS");
    // With what its options are written by.
    let mut text = roff.render();
    text.push_str(&options(root.clone()));
    let mut roff = Roff::new();
    section(&mut roff, "COMMANDS");
    text.push_str(&roff.to_roff());
    describe(&root, "smtpflow", &mut text);
    let mut roff = Roff::new();
    section(&mut roff, "EXIT STATUS");
    items(&mut roff, EXIT_CODES);
    paragraph(
        &mut roff,
        "`smtpflow check` alone has those of a Nagios plug-in: 0 good, 1 warning, 2 critical, 3 unknown.",
    );
    section(&mut roff, "ENVIRONMENT");
    items(
        &mut roff,
        &[("NO_COLOR", "If it is set, nothing is coloured.")],
    );
    section(&mut roff, "EXAMPLES");
    items(
        &mut roff,
        &[
            (
                "smtpflow run --interface eth0 --interface eth1 --local 192.0.2.0/24",
                "Count on both sides of a gateway.",
            ),
            ("smtpflow top", "Who sends now."),
            (
                "smtpflow why 192.0.2.7",
                "Why a host is flagged, or why not.",
            ),
            (
                "smtpflow replay capture.pcap --local 192.0.2.0/24",
                "Count a capture, without any privilege.",
            ),
        ],
    );
    see_also(&mut roff, "smtpflow");
    text.push_str(&roff.to_roff());
    text
}

/// Every command below this one that does something by itself.
fn describe(command: &Command, path: &str, text: &mut String) {
    for sub in command.get_subcommands() {
        if sub.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", sub.get_name());
        if sub.has_subcommands() {
            describe(sub, &path, text);
            continue;
        }
        let mut roff = Roff::new();
        let usage = usage(sub, &path);
        roff.control("SS", [usage.as_str()]);
        let about = sub.get_long_about().or(sub.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        line(&mut roff, &format!("{}.", about.trim_end_matches('.')));
        text.push_str(&roff.to_roff());
        text.push_str(&options(sub.clone()));
    }
}

/// The command with what must and what may follow.
fn usage(command: &Command, path: &str) -> String {
    // Built with its path as its name, or its usage would not have it.
    let mut command = command.clone().bin_name(path).disable_help_flag(true);
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    usage.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Its options and operands, each with what it means.
fn options(command: Command) -> String {
    let command = command.disable_help_flag(true).disable_version_flag(true);
    if command.get_arguments().next().is_none() {
        return String::new();
    }
    let mut text = Vec::new();
    let rendered = Man::new(command).render_options_section(&mut text);
    rendered.expect("a Vec takes everything");
    let text = String::from_utf8_lossy(&text);
    // They stand under a heading of ours; the preamble is at the start of the page. An empty line between
    // two breaks is a space, and mandoc minds the other form.
    text.replace(".br\n\n.br\n", ".sp\n")
        .lines()
        .skip_while(|line| *line != ".SH OPTIONS")
        .skip(1)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// smtpflow.toml(5).
fn configuration() -> String {
    let about = "configuration of smtpflow";
    let mut roff = begin("smtpflow.toml", "5", "File Formats", about);
    section(&mut roff, "SYNOPSIS");
    roff.text([bold(CONFIG)]);
    section(&mut roff, "DESCRIPTION");
    line(
        &mut roff,
        "A file in TOML 1.0. Every key has a shipped value, so that an empty file is a good one. A key that \
         does not exist and a value that is not allowed are errors, which name file, line and column. \
         Flags of the command line win over the file.",
    );
    paragraph(
        &mut roff,
        "`smtpflow config print` writes all keys with their values and this documentation; `smtpflow config \
         check` looks at a file. At SIGHUP the service reads it anew: a file that is wrong changes \
         nothing.",
    );
    paragraph(
        &mut roff,
        "These keys take a restart: those of `table`, `store` and `agent`, those of `meter` but keep_attached, \
         `history.sources`, `history.pairs`, `history.idle`, `serve.listen` and, where `agent.landlock` is \
         true, `alertmanager.url`. All others come into force at SIGHUP.",
    );
    for documented in Config::documentation() {
        let heading = format!("[{}]", documented.name);
        section(&mut roff, &heading);
        line(&mut roff, &documented.about);
        for key in documented.keys {
            let shipped = match &key.default {
                Some(value) => format!(" = {value}"),
                None => " (not set)".to_owned(),
            };
            item(&mut roff, vec![bold(key.name), roman(shipped)], &key.about);
        }
    }
    section(&mut roff, "[[relay]]");
    line(
        &mut roff,
        "One table for each known relay. As it is written:",
    );
    roff.control("PP", []);
    roff.control("nf", []);
    for example in crate::detect::RELAY_EXAMPLE.lines() {
        roff.text([roman(example)]);
    }
    roff.control("fi", []);
    section(&mut roff, "[[owner.router]]");
    line(
        &mut roff,
        "One table for each router whose routes are read. As it is written:",
    );
    roff.control("PP", []);
    roff.control("nf", []);
    for example in crate::owner::ROUTER_EXAMPLE.lines() {
        roff.text([roman(example)]);
    }
    roff.control("fi", []);
    section(&mut roff, "FILES");
    items(&mut roff, &[(CONFIG, "The file of the service.")]);
    see_also(&mut roff, "smtpflow.toml");
    roff.to_roff()
}

/// smtpflow-run(8).
fn service() -> String {
    let about = "the service that counts mail traffic";
    let mut roff = begin("smtpflow-run", "8", "System Administration", about);
    section(&mut roff, "SYNOPSIS");
    roff.text([
        bold("smtpflow run"),
        roman(" ["),
        italic("OPTIONS"),
        roman("]"),
    ]);
    roff.control("PP", []);
    roff.text([bold("systemctl start smtpflow")]);
    section(&mut roff, "DESCRIPTION");
    line(
        &mut roff,
        "It puts an XDP program on the named interfaces, which counts and lets every packet pass, reads the \
         counts at the end of each window, judges the own hosts, keeps history in its store, and serves \
         a page, metrics and an API on 127.0.0.1:12525. XDP sees what an interface receives: to see both \
         directions, name both sides of a gateway.",
    );
    paragraph(
        &mut roff,
        "As a package it attaches to nothing until interfaces are named (meter.interfaces): until then the \
         service is not started, which is no failure. Name them and your own prefixes, then `systemctl \
         start smtpflow`.",
    );
    section(&mut roff, "OPTIONS");
    let root = Arguments::command();
    let run = root.find_subcommand("run").expect("the command run");
    // With what its options are written by.
    let mut text = roff.render();
    text.push_str(&options(run.clone()));
    text.push_str(&options(root.clone()));
    let mut roff = Roff::new();
    section(&mut roff, "SIGNALS");
    items(
        &mut roff,
        &[
            (
                "SIGTERM, SIGINT",
                "A last drain, then the end. The program is taken off the interfaces, unless it is to stay (`keep_attached`).",
            ),
            (
                "SIGHUP",
                "The configuration is read anew, with the files of tokens. If all of it is good, it comes into force with the next window; else nothing changes. One line of the log says which, and another names the keys that take a restart.",
            ),
        ],
    );
    section(&mut roff, "SERVICE MANAGER");
    line(
        &mut roff,
        "It tells a service manager (`NOTIFY_SOCKET`) when it counts and answers, when it reads its \
         configuration, when it ends, and how it is after each window. A watchdog hears of finished drains \
         alone; it has to wait at least two windows, and is asked to wait three if it does not.",
    );
    paragraph(
        &mut roff,
        "Where standard error is the journal, events have their priority in front, as the journal reads it. \
         With `--log-format json` each is one JSON object.",
    );
    section(&mut roff, "UPGRADE, CRASH, REMOVAL");
    line(
        &mut roff,
        "The kernel goes on counting when the service is killed, crashes or, with `keep_attached`, is \
         stopped: the next start takes the counts over, and none is lost or counted twice. A newer \
         version replaces the program in place. `smtpflow detach` ends counting and removes the \
         tables; removing the package does that. A reboot loses what was counted since the last drain.",
    );
    section(&mut roff, "FILES");
    items(
        &mut roff,
        &[
            (CONFIG, "Its configuration, see smtpflow.toml(5)."),
            (
                DEFAULT_STORE,
                "Its store: one file of SQLite, for one agent.",
            ),
            (DEFAULT_PINS, "Its maps and links, on bpffs."),
            (
                "/usr/share/doc/smtpflow/examples",
                "Rules and a dashboard for Prometheus and Grafana, and how to put nginx in front.",
            ),
        ],
    );
    section(&mut roff, "EXIT STATUS");
    items(&mut roff, EXIT_CODES);
    see_also(&mut roff, "smtpflow-run");
    text.push_str(&roff.to_roff());
    text
}

/// With a small first letter, as the line under NAME has it.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_key_has_its_place() {
        let page = Page::Commands.render();
        for usage in [
            "smtpflow host [OPTIONS] <ADDR>",
            "smtpflow relay add",
            "smtpflow config check",
        ] {
            let heading = page
                .lines()
                .find(|line| line.starts_with(".SS") && line.contains(usage));
            assert!(heading.is_some(), "no {usage} in:\n{page}");
        }
        let page = Page::Configuration.render();
        for documented in Config::documentation() {
            assert!(
                page.contains(&format!("[{}]", documented.name)),
                "{documented:?}"
            );
            for key in documented.keys {
                let name = key.name.replace('-', "\\-");
                assert!(
                    page.contains(&format!("\\fB{name}\\fR")),
                    "{key:?} in:\n{page}"
                );
            }
        }
        assert!(Page::Service.render().contains("\\-\\-keep\\-attached"));
    }
}
