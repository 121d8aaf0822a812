//! What fuzzers call: one function for each reader of bytes that somebody else wrote.
//!
//! Contract: any bytes are a case; a panic is a finding. `fuzz/` hands them to libFuzzer, and
//! `tests/tests/targets.rs` tries them on a stable compiler. [`Target::seeds`] are good cases to begin
//! with.

pub mod maillog;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::{Header, Tables, Totals, observe};
use smtp_common::packet::{Packet, parse};
use smtp_common::table::Geometry;
use smtp_user::complaint::{self, Intake, Keep};
use smtp_user::config::Config;
use smtp_user::meter::Meter as _;
use smtp_user::meter::pcap::PcapMeter;
use smtp_user::meter::pcap::memory::OrdinaryMemory;
use smtp_user::meter::xdp::image::Image;
use smtp_user::model::mail::KeptAddresses;

use crate::generator::Generator;
use crate::reference::Account;
use crate::{SMTP, capture, data};

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in `fuzz/`.
    pub name: &'static str,
    /// Tries a case.
    pub try_case: fn(&[u8]),
    /// Good cases.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "frames",
        try_case: frames,
        seeds: frame_seeds,
    },
    Target {
        name: "capture",
        try_case: capture_file,
        seeds: capture_seeds,
    },
    Target {
        name: "config",
        try_case: config,
        seeds: config_seeds,
    },
    Target {
        name: "pins",
        try_case: pins,
        seeds: pin_seeds,
    },
    Target {
        name: "maillog",
        try_case: maillog::try_case,
        seeds: maillog::seeds,
    },
    Target {
        name: "complaints",
        try_case: complaints,
        seeds: complaint_seeds,
    },
];

/// Parser, observer and tables: frames with their lengths in two octets before them. What they count
/// is compared with the reference.
pub fn frames(case: &[u8]) {
    const GEOMETRY: Geometry = Geometry {
        cpus: 1,
        sets: 8,
        syn_slots: 64,
        flow_sets: 8,
    };
    let mut memory = OrdinaryMemory::new(GEOMETRY);
    let mut header = Header::new(0);
    let tables = Tables {
        sets: GEOMETRY.sets,
        flow_sets: GEOMETRY.flow_sets,
        syn_slots: GEOMETRY.syn_slots,
        address_seeds: || std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15_u64.rotate_left(i as u32)),
        syn_seeds: || std::array::from_fn(|i| 0xd6e8_feb8_6659_fd93_u64.rotate_left(i as u32)),
    };
    let mut account = Account::default();
    let mut rest = case;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (frame, others) = after.split_at(length);
        rest = others;
        account.count(frame);
        match parse(Packet::from_slice(frame), SMTP) {
            Ok((segment, payload)) => {
                observe(&segment, payload, &tables, &mut header, &mut memory);
            }
            Err(skip) => header.end(Counter::Skip(skip)),
        }
    }
    let counts = account.cut();
    let expected = |name: &str| counts.outcomes.get(name).copied().unwrap_or_default();
    for skip in Skip::ALL {
        let count = header.outcomes[Counter::Skip(skip).index()];
        assert_eq!(count, expected(skip.name()), "{}", skip.name());
    }
    assert_eq!(
        header.outcomes[Counter::Segment.index()],
        expected("segment")
    );
    let mut sources: BTreeMap<IpAddr, Totals> = BTreeMap::new();
    memory.drain(|address, stats| {
        let totals = sources.entry(address.into()).or_default();
        totals.merge(&stats.into());
    });
    // A SYN may have lost its slot to another one.
    let forgetful = |mut totals: Totals| {
        totals.connections += std::mem::take(&mut totals.syn_retx);
        totals
    };
    let counted = sources
        .into_iter()
        .map(|(a, totals)| (a, forgetful(totals)));
    let right = counts.sources.into_iter();
    let right = right.map(|(a, totals)| (a, forgetful(totals)));
    assert_eq!(
        counted.collect::<BTreeMap<_, _>>(),
        right.collect::<BTreeMap<_, _>>()
    );
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let mut generator = Generator::new(1);
    let mut seed = || {
        let mut case = Vec::new();
        for _ in 0..6 {
            let frame = generator.frame();
            if frame.len() < 400 {
                case.extend((frame.len() as u16).to_be_bytes());
                case.extend(frame);
            }
        }
        case
    };
    (0..64).map(|_| seed()).collect()
}

/// The reader of captures, and all that is counted from one.
pub fn capture_file(case: &[u8]) {
    let window = Duration::from_secs(10);
    let Ok(mut meter) = PcapMeter::new(Path::new("case"), Cursor::new(case), window, SMTP) else {
        return;
    };
    let mut frames = 0;
    while let Ok(Some(window)) = meter.window() {
        assert_eq!(window.tally.conservation_error(), 0, "{window:?}");
        assert!(window.tally.frames > 0, "an empty window");
        frames += window.tally.frames;
    }
    // A record has a header of sixteen octets, a simple packet block has sixteen with its trailer.
    assert!(frames <= case.len() as u64 / 16, "{frames} frames");
    assert!(matches!(meter.window(), Ok(None)), "more after the end");
}

fn capture_seeds() -> Vec<Vec<u8>> {
    let names = [
        "smtp.pcap",
        "ipv6.pcap",
        "smtp-bdat-cmd-invalid.pcapng",
        "truncated-header.pcap",
        "connect-with-smtp.pcap",
    ];
    let whole = names.map(|name| std::fs::read(data(name)).expect("a capture"));
    // A few records are enough to go wrong in, and quick.
    let start = |capture: &Vec<u8>| capture[..capture.len().min(4_000)].to_vec();
    let mut seeds: Vec<_> = whole.iter().map(start).collect();
    seeds.extend([capture::pcapng_of_every_block()]);
    seeds
}

/// The configuration: what is accepted is the same when it is printed and read again.
pub fn config(case: &[u8]) {
    let text = String::from_utf8_lossy(case);
    match Config::from_toml("case", &text) {
        Ok(config) => {
            let printed = config.to_toml();
            let again = Config::from_toml("printed", &printed)
                .unwrap_or_else(|failure| panic!("{failure}\n{printed}"));
            assert_eq!(again, config, "{printed}");
        }
        Err(failure) => assert!(failure.to_string().starts_with("case"), "{failure}"),
    }
}

fn config_seeds() -> Vec<Vec<u8>> {
    let printed = Config::default().to_toml();
    let set: String = printed
        .lines()
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let local = "[networks]\nlocal = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
        [meter]\nports = [25, 587]\nwindow = \"10s\"\n[table]\nsets_per_cpu = 64\n";
    vec![printed.into_bytes(), set.into_bytes(), local.into()]
}

/// What reads pinned maps: their memory may be another program's, or another version's. The case
/// begins with the number of CPUs and with how much of it is sets of sources.
pub fn pins(case: &[u8]) {
    let Some((&[cpus, share], rest)) = case.split_first_chunk::<2>() else {
        return;
    };
    let (identity, rest) = rest.split_at(rest.len().min(24 * 8));
    let headers = usize::from(cpus % 4) * size_of::<Header>();
    let (headers, rest) = rest.split_at(rest.len().min(headers));
    let (sources, flows) = rest.split_at(rest.len() * usize::from(share) / 255);
    let image = Image {
        identity,
        headers,
        sources,
        flows,
    };
    let reading = image
        .read()
        .expect("nothing of it asks the kernel but the time");
    // It is broken for most cases, and it has to be told for all.
    let _ = reading.tally.conservation_error();
    for source in &reading.sources {
        let _ = (source.ip(), source.totals.packets(), source.totals.bytes());
    }
}

fn pin_seeds() -> Vec<Vec<u8>> {
    let mut generator = Generator::new(2);
    let mut random = crate::random::Random::new(3);
    let mut seed = |cpus: u8, share: u8| {
        let mut case = vec![cpus, share];
        case.extend(2_u64.to_ne_bytes());
        case.extend(random.octets(23 * 8));
        case.extend(vec![0; usize::from(cpus) * size_of::<Header>()]);
        // Octets of frames are better lines than noise.
        while case.len() < 5_000 {
            case.extend(generator.frame());
        }
        case.truncate(6_000);
        case
    };
    vec![seed(1, 128), seed(2, 255), seed(3, 0), seed(0, 128)]
}

/// Files with complaints, in every form. What is read can be kept.
pub fn complaints(case: &[u8]) {
    // 2026-11-25T00:00:00Z.
    const NOW: u64 = 1_795_564_800_000;
    let mut intake = Intake::new(NOW, &[]).keeping(Some(Keep {
        addresses: KeptAddresses::Domain,
        key: [7; 32],
    }));
    // What it is may not be told.
    let _ = complaint::stream("case", case, &mut intake);
    let taken = intake.done();
    assert!(taken.refused >= taken.refusals.len() as u64);
    for header in taken.headers.values() {
        let text = &header.text;
        let plain = |c: char| c == '\r' || c == '\n' || c == ' ' || c.is_ascii_graphic();
        assert!(text.len() <= 8 << 10 && text.chars().all(plain), "{text:?}");
    }
    for complaint in taken.complaints {
        assert_eq!(complaint.clone().checked(NOW), Ok(complaint));
    }
}

fn complaint_seeds() -> Vec<Vec<u8>> {
    const FOLDER: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../smtp-user/src/complaint/tests"
    );
    let mail = ["arf.eml", "xarf.eml"].map(|name| {
        let text = std::fs::read_to_string(Path::new(FOLDER).join(name)).expect("a report");
        text.replace("@ADDRESS@", "192.0.2.66")
    });
    let mark = "From desk@isp.example Tue Nov 24 14:00:00 2026\n";
    let mbox = format!("{mark}{}\n{mark}{}", mail[0], mail[1]);
    let (start, end) = (mail[1].find("{\n"), mail[1].rfind('}'));
    let (start, end) = (start.expect("JSON"), end.expect("its end"));
    let xarf = mail[1][start..=end].to_owned();
    let csv = "address,time,kind,reporter,reference,happened,incidents\n\
        # remark\n192.0.2.66,2026-11-24 14:00,spam,isp.example,\"T-1, \"\"late\"\"\",2026-11-23,3\n";
    let [arf, in_mail] = mail;
    [arf, in_mail, mbox, xarf, csv.to_owned()]
        .map(String::into_bytes)
        .into()
}
