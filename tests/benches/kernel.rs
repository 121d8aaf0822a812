//! What counting costs per packet inside the kernel (`BPF_PROG_TEST_RUN` with repeat): one frame again
//! and again over a bare `XDP_PASS`, and many sources over the same frames that nobody counts.
//!
//! Part of `cargo xtask bench`, which runs it and reports; as root. Progress goes to standard error,
//! the rows to standard output.

use smtp_user::meter::xdp::XdpMeter;
use smtp_user::model::Tally;
use smtpflow_tests::measure::{Plan, Rows, What, own_namespace, sliced, stay_on_last_cpu};
use smtpflow_tests::packets::{Flags, Frame, client, server, six};
use smtpflow_tests::programs::Programs;
use smtpflow_tests::{meter, options, window};
use xtask::cost::{Counts, median, name};

/// Sets per CPU of the default table: see `DEFAULT_SETS` of the agent.
const SETS_LOG2: u32 = 15;
const SYN_SLOTS: u32 = 1 << 18;
/// Numbers of sources.
const SOURCES: [u32; 5] = [1, 1 << 10, 1 << 14, 1 << 17, 1 << 20];
/// SYNs of new sources between two flips: so few that hardly any set gets full.
const NEW_BATCH: u32 = 1 << 12;
/// Many short ones: subjects of a round are then measured within a second of each other.
const ROUNDS: usize = 21;
const UNIT: &str = "ns/packet";

fn main() {
    let plan = Plan::from_arguments(ROUNDS);
    own_namespace();
    stay_on_last_cpu();
    Rows::print(vec![one_frame(plan), many_sources(plan)]);
}

/// A smtpflow under measurement: a meter, and programs that count into its maps.
struct Subject {
    name: &'static str,
    meter: XdpMeter,
    agent: Programs,
    varied: Programs,
}

impl Subject {
    /// With tables of 2^`sets_log2` sets on each CPU, and with or without the table of flows, of which
    /// one has as many bytes as the table of sources.
    fn new(name: &'static str, pins: &str, sets_log2: u32, flows: bool) -> Self {
        let mut options = options(pins, sets_log2);
        options.geometry.syn_slots = SYN_SLOTS;
        if !flows {
            options.geometry.flow_sets = 0;
        }
        let meter = meter(&options);
        Self {
            name,
            agent: Programs::of_agent(&meter),
            varied: Programs::varied(&meter),
            meter,
        }
    }

    /// What was counted since the last time.
    fn tally(&mut self) -> Tally {
        let window = window(&mut self.meter).expect("a live meter has no end");
        assert_eq!(window.tally.conservation_error(), 0);
        window.tally
    }

    fn end(self) {
        self.meter.detach().expect("the pins can be removed");
    }
}

fn one_frame(plan: Plan) -> Rows {
    let repeat = plan.of(1 << 20, 1 << 16);
    let data = Frame::to_server(client(1), server(1), Flags::Ack, 1).with_payload(400);
    let mut https = data.clone();
    https.destination.1 = 443;
    let mut udp = https.build();
    udp[23] = 17;
    let six = Frame::to_server(six(1), six(2), Flags::Ack, 1).with_payload(400);
    let frames = [
        (name::TCP, https.build()),
        (name::UDP, udp),
        (name::DATA, data.build()),
        (name::DATA_IPV6, six.build()),
        (name::DATA_VLAN, data.with_vlans(&[5]).build()),
        (
            name::SYN_AGAIN,
            Frame::to_server(client(1), server(1), Flags::Syn, 1).build(),
        ),
        (
            name::SYN_ACK,
            Frame::to_client(server(1), client(1), Flags::SynAck, 1).build(),
        ),
    ];
    let new = Frame::to_server(client(1), server(1), Flags::Syn, 1).build();

    let mut rows = Rows::new(name::KERNEL);
    let mut bare = Programs::bare();
    let mut subjects = [
        Subject::new(name::SMTPFLOW, "bench-sources", SETS_LOG2, false),
        Subject::new(name::SMTPFLOW_FLOWS, "bench-flows", SETS_LOG2, true),
    ];
    let bare_row = |case| What {
        case,
        subject: name::BARE_PASS,
        over: None,
        sources: 1,
        unit: UNIT,
    };
    let row = |case, subject, over| What {
        case,
        subject,
        over: Some(over),
        sources: 1,
        unit: UNIT,
    };
    for round in 1..=plan.rounds {
        eprintln!("kernel, one frame: round {round} of {}", plan.rounds);
        for (case, frame) in &frames {
            rows.add(bare_row(case), timed(&mut bare, "pass", frame, repeat));
            for subject in &mut subjects {
                let time = timed(&mut subject.agent, "smtpflow", frame, repeat);
                let what = row(case, subject.name, name::BARE_PASS);
                rows.add(what, time);
                let counts = counts(&subject.tally(), u64::from(repeat) + WARM);
                rows.add_counts(what, counts);
            }
        }
        // Every SYN of an address that the window has not seen.
        let batches = plan.of(16, 2);
        let control = unseen(&mut subjects[0], "control", &new, batches);
        let base = What {
            subject: name::CONTROL,
            ..bare_row(name::SYN_NEW)
        };
        rows.add(base, control);
        for subject in &mut subjects {
            let time = unseen(subject, "count", &new, batches);
            rows.add(row(name::SYN_NEW, subject.name, name::CONTROL), time);
        }
    }
    subjects.into_iter().for_each(Subject::end);
    rows
}

fn many_sources(plan: Plan) -> Rows {
    let repeat = 1 << 20;
    let sources = plan.of(&SOURCES[..], &SOURCES[..3]);
    let most = *sources.last().expect("some");
    let frame = Frame::to_server(client(1), server(1), Flags::Ack, 1)
        .with_payload(400)
        .build();

    let mut rows = Rows::new(name::SOURCES);
    let mut hashes = Programs::compare(most);
    let mut subjects = [
        Subject::new(name::SMTPFLOW, "bench-sources", SETS_LOG2, false),
        Subject::new(name::SMTPFLOW_FLOWS, "bench-flows", SETS_LOG2, true),
        // Half a source to a set: 3 of 100 find it full.
        Subject::new(name::SMTPFLOW_LARGE, "bench-large", most.ilog2() + 1, false),
    ];
    let row = |subject, sources| What {
        case: name::DATA,
        subject,
        over: Some(name::CONTROL),
        sources: u64::from(sources),
        unit: UNIT,
    };
    for round in 1..=plan.rounds {
        for &sources in sources {
            eprintln!(
                "kernel, {sources} sources: round {round} of {}",
                plan.rounds
            );
            let control = varied(&mut subjects[0].varied, "control", &frame, sources, repeat);
            let base = What {
                over: None,
                ..row(name::CONTROL, sources)
            };
            rows.add(base, control);
            for subject in &mut subjects {
                let time = varied(&mut subject.varied, "count", &frame, sources, repeat);
                rows.add(row(subject.name, sources), time);
                let sent = u64::from(sources.max(WARM as u32)) + u64::from(repeat);
                let counts = counts(&subject.tally(), sent);
                rows.add_counts(row(subject.name, sources), counts);
            }
            for (subject, program) in [
                (name::PERCPU_HASH, "percpu_hash"),
                (name::LRU_PERCPU_HASH, "lru_percpu_hash"),
            ] {
                let time = varied(&mut hashes, program, &frame, sources, repeat);
                rows.add(row(subject, sources), time);
            }
        }
    }
    subjects.into_iter().for_each(Subject::end);
    rows
}

/// Nanoseconds of one run with a source that is new in its window.
fn unseen(subject: &mut Subject, program: &'static str, frame: &[u8], batches: u32) -> f64 {
    let _link = subject.varied.hold(program);
    subject.varied.vary(frame, 1 << 24, 0);
    let times: Vec<f64> = (0..batches)
        .map(|_| {
            let time = subject.varied.time(program, frame, NEW_BATCH);
            subject.tally();
            time.as_nanos() as f64 / f64::from(NEW_BATCH)
        })
        .collect();
    median(&times)
}

/// Runs that nobody times, before those that are.
const WARM: u64 = 1 << 10;

/// Nanoseconds of one run on a frame that stays as it is.
fn timed(programs: &mut Programs, program: &str, frame: &[u8], repeat: u32) -> f64 {
    let _link = programs.hold(program);
    programs.time(program, frame, WARM as u32);
    sliced(repeat, |runs| programs.time(program, frame, runs))
}

/// Nanoseconds of one run with this many sources, all of which were seen before.
fn varied(programs: &mut Programs, program: &str, frame: &[u8], sources: u32, repeat: u32) -> f64 {
    let _link = programs.hold(program);
    programs.vary(frame, sources, 0);
    programs.time(program, frame, sources.max(WARM as u32));
    sliced(repeat, |runs| programs.time(program, frame, runs))
}

fn counts(tally: &Tally, sent: u64) -> Counts {
    let unattributed = tally.overflow.packets();
    Counts {
        sent,
        counted: tally.frames - unattributed,
        unattributed,
        note: String::new(),
    }
}
