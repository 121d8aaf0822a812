//! A campus under watch: a real agent that goes on with weeks of history, real frames on its interface,
//! and a browser that looks at its page.
//!
//! Contract: everything has the name of the test and goes with it. The past is made once for all tests
//! of a file, and copied.

use std::cell::RefCell;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use smtp_user::model::complaint::{Complaint, ComplaintForm, ComplaintKind};
use smtp_user::model::notice::{
    Fate, Notice, NoticeChange, NoticeEvent, NoticeKind, NoticeState, Recipient,
};
use smtp_user::model::person::SMTPFLOW;
use smtp_user::store::{NoticeLedger, add_complaint};
use xtask::browser::{Browser, Page};
use xtask::lab::{Agent, AgentOptions, GATEWAY_CLIENT_SIDE, Lab, ensure_bpffs};

use crate::campus::Campus;

/// The longest wait for anything here.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How many days are behind the agent.
pub const DAYS: u64 = 30;
/// Who has this may read.
pub const READ_TOKEN: &str = "read-read-read-read-read-read-01";
/// Who has this may change something.
pub const ACT_TOKEN: &str = "act-act-act-act-act-act-act-act-02";

/// A campus, its past in a file, and the text of its configuration.
struct Past {
    campus: Campus,
    store: PathBuf,
}

/// The past of all tests of a program.
fn past() -> &'static Past {
    static PAST: OnceLock<Past> = OnceLock::new();
    PAST.get_or_init(|| {
        let folder = tools().with_file_name("past");
        fs::create_dir_all(&folder).expect("a folder");
        // Who opens a store refuses one that others could read.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("its mode");
        let store = folder.join(format!("{}.db", std::process::id()));
        let begun = std::time::Instant::now();
        let campus = Campus::new(DAYS);
        let verdicts = campus
            .write_past(&store)
            .unwrap_or_else(|failure| panic!("{failure}"));
        println!(
            "{DAYS} days in {:.1} s: {verdicts} verdicts",
            begun.elapsed().as_secs_f64()
        );
        write_notice(&store, campus.spammer());
        write_complaint(&store, campus.spammer());
        Past { campus, store }
    })
}

/// A notice about a host that waits for somebody.
fn write_notice(store: &Path, host: IpAddr) {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock");
    let at = since.as_millis() as u64;
    let notice = Notice {
        id: 1,
        case: None,
        kind: NoticeKind::First,
        state: NoticeState::Waiting,
        recipients: vec![Recipient {
            mail: "it@physics.example".to_owned(),
            fate: Fate::Pending,
        }],
        hosts: vec![host.into()],
        made_at: at,
        changed_at: at,
        expires_at: at + 259_200_000,
        next_at: at,
        attempts: 0,
        left_at: None,
        message_id: "1.first@example.org".to_owned(),
        subject: format!("[case 1] {host}: it sends mail as a bot does"),
        text: format!(
            "{host} opens connections to many mail servers.\n\n{}\n",
            "long ".repeat(80)
        ),
        message: format!("Subject: it\r\n\r\n{}\r\n", "x".repeat(900)).into_bytes(),
        last_reply: None,
    };
    let event = NoticeEvent {
        notice: 1,
        at,
        who: SMTPFLOW.to_owned(),
        from: None,
        to: NoticeState::Waiting,
        why: "a new case".to_owned(),
    };
    let ledger = NoticeLedger::take(store).expect("a ledger");
    ledger
        .write(&[NoticeChange::Made(notice, event)])
        .expect("written");
}

/// A complaint about a host.
fn write_complaint(store: &Path, host: IpAddr) {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock");
    let at = since.as_millis() as u64;
    let complaint = Complaint {
        address: host,
        at,
        happened_at: None,
        kind: ComplaintKind::Spam,
        form: ComplaintForm::Hand,
        reporter: "isp.example".to_owned(),
        reference: "ticket 4711".to_owned(),
        incidents: 3,
    };
    let complaint = complaint.checked(at).expect("a complaint");
    add_complaint(store, &complaint, "anna", at).unwrap_or_else(|error| panic!("{error:?}"));
}

/// What must be, or a panic with the error and all its causes.
pub trait Good<T> {
    /// See the trait.
    fn good(self) -> T;
}

impl<T> Good<T> for anyhow::Result<T> {
    #[track_caller]
    fn good(self) -> T {
        self.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// The faults of a page that are none of these.
pub fn other_faults(page: &Page<'_>, expected: &[&str]) -> Vec<String> {
    let faults = page.faults().good().into_iter();
    let is_expected = |fault: &String| expected.iter().any(|part| fault.contains(part));
    faults.filter(|fault| !is_expected(fault)).collect()
}

/// Nothing went wrong in this page since this was asked before.
#[track_caller]
pub fn fault_free(page: &Page<'_>, what: &str) {
    let faults = page.faults().good();
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

/// The folder of the tools that `cargo xtask test` fetches.
pub fn tools() -> PathBuf {
    output_folder().join("tools")
}

/// The folder for what is kept of a test.
pub fn output_folder() -> PathBuf {
    let me = std::env::current_exe().expect("this program is somewhere");
    // target/PROFILE/deps/PROGRAM
    let target = me.ancestors().nth(3).expect("in a target folder");
    target.join("xtask")
}

/// See the module.
pub struct Watched<'a> {
    /// The laboratory.
    pub lab: &'a Lab,
    /// Who is in it.
    pub campus: &'static Campus,
    /// How the agent runs.
    pub options: AgentOptions,
    /// The agent.
    pub agent: RefCell<Agent>,
    /// The browser.
    pub browser: Browser,
}

impl Watched<'_> {
    /// A page of the agent.
    pub fn page(&self) -> Page<'_> {
        self.browser.page(self.options.listen).good()
    }

    /// What the API answers.
    pub fn json(&self, path: &str) -> Value {
        self.agent.borrow_mut().json(path).good()
    }

    /// Starts the agent again, with the same options.
    pub fn restart(&self) {
        let mut agent = self.lab.agent(&self.options).good();
        agent.wait_ready(LIMIT).good();
        self.agent.replace(agent);
    }
}

/// Lets an agent watch the campus, in windows of a second, while `look` looks. `more` is added to the
/// configuration. `prefix` is that of the laboratory.
pub fn watch(prefix: &str, more: &str, look: impl FnOnce(&Watched<'_>)) {
    watch_at(prefix, GATEWAY_CLIENT_SIDE, more, |_| (), look);
}

/// The same, on an interface of this name, after `prepare` has done something to the store.
pub fn watch_at(
    prefix: &str,
    interface: &str,
    more: &str,
    prepare: impl FnOnce(&Path),
    look: impl FnOnce(&Watched<'_>),
) {
    ensure_bpffs().expect("bpffs");
    let past = past();
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["campus", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("campus", "eth0"), ("gateway", interface), None)
        .expect("a link");
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec![interface.to_owned()];
    options.window = "1s".to_owned();
    let store = options.store.clone().expect("a store");
    let folder = store.parent().expect("a folder");
    fs::create_dir_all(folder).expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("its mode");
    fs::copy(&past.store, &store).expect("a copy of the past");
    prepare(&store);
    let config = lab.folder().join("smtpflow.toml");
    let serve = [
        "[serve]\n".to_owned(),
        token_file(lab.folder(), "token_file", READ_TOKEN),
        token_file(lab.folder(), "act_token_file", ACT_TOKEN),
    ]
    .concat();
    fs::write(&config, past.campus.configuration() + more + &serve).expect("a configuration");
    options.extra = vec!["--config".to_owned(), config.display().to_string()];
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    let browser =
        Browser::start(&lab.folder().join("browser")).unwrap_or_else(|error| panic!("{error:#}"));
    let watched = Watched {
        lab: &lab,
        campus: &past.campus,
        options,
        agent: RefCell::new(agent),
        browser,
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let (lab, stop) = (&lab, &stop);
        scope.spawn(move || {
            lab.within("campus", || past.campus.send("eth0", stop))
                .expect("a thread in the namespace");
        });
        look(&watched);
    });
}

/// Stops the traffic, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file with a token, and the line of the configuration that names it.
fn token_file(folder: &Path, key: &str, token: &str) -> String {
    let file = folder.join(key);
    fs::write(&file, format!("{token}\n")).expect("a token");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
    format!("{key} = \"{}\"\n", file.display())
}
