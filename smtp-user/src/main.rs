//! `smtpflow`: reads the command line, does what it says, and ends with the code that says how it
//! went.
//!
//! Contract: an error is printed once, on standard error, as `smtpflow: TEXT`; what was asked for is
//! printed on standard output, and a reader who has had enough of it is no error.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use smtp_user::args::{
    self, Arguments, Command, ComplaintCommand, ConfigCommand, LogArgs, LogFormat, LogLevel,
    NoticeCommand, RelayCommand,
};
use smtp_user::failure::Failure;
use smtp_user::model::notice::NoticeState;
use smtp_user::{
    agent, config, doctor, evidence, journal, mail_report, meter, reading, replay, telling, top,
    whose,
};
use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt};

fn main() -> ExitCode {
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            let prefix = if journal::is_stderr() {
                journal::prefix(&Level::ERROR)
            } else {
                ""
            };
            // Not eprintln, which panics when standard error is closed.
            let _ = writeln!(io::stderr(), "{prefix}smtpflow: {failure}");
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { command, log } = arguments;
    start_log(&log)?;
    match command {
        Command::Run(run) => {
            let file = run.config.clone();
            agent::run(run.config()?, file.as_deref(), move || run.config())?;
        }
        Command::Attach(attach) => {
            for line in agent::attach(&attach.config()?)? {
                print(&line)?;
            }
        }
        Command::Replay(replay) => replay::run(&replay.options()?)?,
        Command::Maillog(args) => print(&mail_report::run(&args.options()?)?)?,
        Command::Report(args) => {
            let (place, asked, output) = args.options()?;
            print(&reading::report(&place, asked, output)?)?;
        }
        Command::Distribution(args) => {
            let (place, asked, item, output) = args.options()?;
            print(&reading::distribution(&place, asked, item, output)?)?;
        }
        Command::Host(args) => {
            let (place, asked, address, output) = args.options()?;
            print(&reading::host(&place, asked, address, output)?)?;
        }
        Command::Why(args) => {
            let (place, address, output) = args.options()?;
            print(&reading::why(&place, address, output)?)?;
        }
        Command::Evidence(args) => print(&evidence::run(&args.options()?)?)?,
        Command::Verdicts(args) => {
            let (place, wanted, output) = args.options()?;
            print(&reading::verdicts(&place, wanted, output)?)?;
        }
        Command::Verdict(command) => {
            let (place, change, json) = command.options()?;
            print(&reading::change(&place, &change, json)?)?;
        }
        Command::Relay(RelayCommand::List(args)) => {
            let (place, ended, output) = args.options()?;
            print(&reading::relays(&place, ended, output)?)?;
        }
        Command::Relay(RelayCommand::Add(args)) => {
            let (place, change, json) = args.options()?;
            print(&reading::change_relay(&place, &change, json)?)?;
        }
        Command::Relay(RelayCommand::Expire(args)) => {
            let (place, change, json) = args.options()?;
            print(&reading::change_relay(&place, &change, json)?)?;
        }
        Command::Complaint(ComplaintCommand::List(args)) => {
            let (place, wanted, output) = args.options()?;
            print(&reading::complaints::list(&place, &wanted, output)?)?;
        }
        Command::Complaint(ComplaintCommand::Import(args)) => {
            let (place, import, json) = args.options()?;
            print(&reading::complaints::import(&place, &import, json)?)?;
        }
        Command::Complaint(ComplaintCommand::Add(args)) => {
            let (place, told, json) = args.options()?;
            print(&reading::complaints::add(&place, &told, json)?)?;
        }
        Command::Complaint(ComplaintCommand::Withdraw(args)) => {
            let (place, withdrawn, json) = args.options()?;
            print(&reading::complaints::withdraw(&place, &withdrawn, json)?)?;
        }
        Command::Owner(args) => {
            let (config, asked, json) = args.options()?;
            print(&whose::owner(&config, asked, json)?)?;
        }
        Command::Routes(args) => {
            let (config, form, fresh) = args.options()?;
            whose::routes(&config, form, fresh, print)?;
        }
        Command::ServeRwhois(args) => whose::serve_rwhois(args.config()?, print)?,
        Command::RelayTest(args) => {
            let (options, output) = args.options()?;
            let (report, is_clear) = reading::relay_test(&options, output)?;
            print(&report)?;
            if !is_clear {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Notice(command) => print(&notice(command)?)?,
        Command::Tune(args) => {
            let (place, trial, output) = args.options()?;
            print(&reading::tune(&place, &trial, output)?)?;
        }
        Command::Top(args) => {
            if let Some(printed) = top::run(args.options()?)? {
                print(&printed)?;
            }
        }
        Command::Status(status) => {
            print(&reading::status(&status.agent.agent()?, status.json)?)?;
        }
        Command::Check(check) => {
            let (limits, json) = (check.limits(), check.json);
            let (line, code) = reading::check(check.agent.agent(), &limits, json);
            print(&line)?;
            return Ok(ExitCode::from(code));
        }
        Command::Doctor(doctor) => {
            let json = doctor.json;
            let report = doctor::examine(&doctor.options()?);
            print(&if json { report.json() } else { report.text() })?;
            if !report.works() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Detach(detach) => {
            let (pins, interfaces) = detach.options()?;
            let detached = meter::xdp::detach(&pins, &interfaces)?;
            if detached.is_empty() {
                print("nothing is attached\n")?;
            }
            for interface in detached {
                print(&format!("detached from {interface}\n"))?;
            }
        }
        Command::Config(ConfigCommand::Check { file }) => {
            config::Config::from_file(&file)?;
            print(&format!("{}: good\n", file.display()))?;
        }
        Command::Completions { shell } => print(&args::completions(shell))?,
        Command::Man { page } => print(&page.render())?,
        Command::Config(ConfigCommand::Print { config }) => {
            print(&args::load(config.as_ref())?.to_toml())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A verb about notices: what is to be printed.
fn notice(command: NoticeCommand) -> Result<String, Failure> {
    match command {
        NoticeCommand::List(args) => {
            let (place, states, output) = args.options()?;
            telling::list(&place, &states, output)
        }
        NoticeCommand::Show(args) => {
            let (place, id, message, output) = args.options()?;
            match message {
                true => telling::message(&place, id),
                false => telling::show(&place, id, output),
            }
        }
        NoticeCommand::Preview(args) => {
            let (place, address, json) = args.options()?;
            telling::preview(&place, address, json)
        }
        NoticeCommand::Run(args) => telling::run(|| args.config(), args.looks()),
        NoticeCommand::Approve(args) => {
            let (place, decision, json) = args.options(NoticeState::Approved)?;
            telling::decide(&place, &decision, json)
        }
        NoticeCommand::Reject(args) => {
            let (place, decision, json) = args.options(NoticeState::Rejected)?;
            telling::decide(&place, &decision, json)
        }
        NoticeCommand::Templates { language } => telling::templates(&language),
    }
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")?
        }
        _ => Ok(()),
    }
}

/// Sends events of this program, and of libraries that use the `log` crate (aya-log, which brings
/// the kernel program's own), to standard error; where that is the journal, as the journal reads it.
fn start_log(log: &LogArgs) -> Result<(), Failure> {
    let level = log.log_level.name();
    // What libraries say about every connection and every relocation helps nobody who looks for lost
    // packets.
    let library = log.log_level.min(LogLevel::Warn).name();
    let filter = EnvFilter::new(format!(
        "{level},axum={library},aya={library},hyper={library},tower={library}"
    ));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would report a closed standard error there, and panic.
        .log_internal_errors(false);
    match (log.log_format, journal::is_stderr()) {
        (LogFormat::Text, false) => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).try_init()
        }
        // The journal notes the time and the level by itself.
        (LogFormat::Text, true) => {
            let form = fmt::format().without_time().with_level(false);
            builder
                .with_ansi(false)
                .event_format(journal::Prefixed(form))
                .try_init()
        }
        (LogFormat::Json, false) => builder.json().flatten_event(true).try_init(),
        (LogFormat::Json, true) => builder
            .json()
            .flatten_event(true)
            .map_event_format(journal::Prefixed)
            .try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))?;
    Ok(())
}
