//! Clients that are slow on purpose: a thousand connections at a time, whose headers, whose bodies or whose
//! reading of the answer never end, from one address and from many, as the program `slowhttptest` makes
//! them. Meanwhile mail comes, others are answered as ever, windows are cut on time, and everything is
//! counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smtp_common::flow::Totals;
use smtpflow_tests::packets::server;
use smtpflow_tests::reached::{self, GATEWAY};
use smtpflow_tests::tokens::{ACT, READ};
use smtpflow_tests::volley;
use xtask::command::poll_until;
use xtask::lab::{Lab, Process, Topology, http_get};

const LIMIT: Duration = Duration::from_secs(60);
/// Connections at a time.
const CONNECTIONS: usize = 1000;
/// How many of them are opened in a second.
const RATE: usize = 500;
/// How long each attack goes on, in seconds: longer than any slow connection lives.
const ATTACK: u64 = 16;
/// The longest life of a slow connection.
const LIFE: Duration = Duration::from_secs(15);
/// Addresses of the attack from many, each of which opens as many connections.
const ADDRESSES: u8 = 25;
/// What the slowest answer but one in a hundred may take for another client.
const ANSWER: Duration = Duration::from_millis(250);
/// By how much the agent may grow, in KiB.
const GROWTH: u64 = 50 << 10;
/// Packets of mail in a second.
const MAIL: u64 = 5000;
/// The longest from one window's end to the next one's, of windows of a second.
const WINDOW: f64 = 1.5;

/// What the attacker's program is told, and from how many addresses it comes.
struct Attack {
    name: &'static str,
    arguments: Vec<String>,
    addresses: u8,
}

/// The attacks. The last two have a token, without which no body is waited for and no answer is long: worse
/// than what anybody could do.
fn attacks() -> Vec<Attack> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    // The program writes what it is given into the request as it is.
    let reader = format!("*/*\r\nAuthorization: Bearer {READ}");
    let actor = format!("application/json\r\nAuthorization: Bearer {ACT}");
    let reading = words(&[
        "-X", "-w", "1", "-y", "64", "-n", "1", "-z", "5", "-k", "8", "-m", &reader,
    ]);
    vec![
        Attack {
            name: "headers",
            arguments: words(&["-H", "-i", "1", "-x", "24"]),
            addresses: 1,
        },
        Attack {
            name: "body",
            arguments: words(&["-B", "-i", "1", "-x", "10", "-s", "8192", "-f", &actor]),
            addresses: 1,
        },
        Attack {
            name: "read",
            arguments: reading,
            addresses: 1,
        },
        Attack {
            name: "headers from many",
            arguments: words(&["-H", "-i", "1", "-x", "24"]),
            addresses: ADDRESSES,
        },
    ]
}

/// What a client that behaves has seen.
#[derive(Default)]
struct Seen {
    /// How long each answer took.
    times: Vec<Duration>,
    /// What was no answer.
    failures: Vec<String>,
    /// The ends of windows, in seconds since the first, as the answers tell them.
    windows: Vec<f64>,
}

impl Seen {
    fn percentile(&self, of_hundred: usize) -> Duration {
        if self.times.is_empty() {
            return Duration::MAX;
        }
        let mut times = self.times.clone();
        times.sort_unstable();
        times[(times.len() * of_hundred).div_ceil(100).max(1) - 1]
    }

    /// The longest from one end of a window to the next.
    fn longest_window(&self) -> f64 {
        let gaps = self.windows.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.fold(0.0, f64::max)
    }
}

/// Asks on a new connection each time, until it is over.
fn behave(over: &AtomicBool) -> Seen {
    let authorization = format!("Bearer {READ}");
    let mut seen = Seen::default();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = http_get(
            GATEWAY,
            "/api/v1/status",
            &[("Authorization", &authorization)],
        );
        match answer {
            Ok(answer) if answer.status == 200 => {
                seen.times.push(begun.elapsed());
                let status = answer.json().expect("JSON");
                let at = status["last_drain"]["at"].as_str().expect("a drain");
                let at: jiff::Timestamp = at.parse().expect("a time");
                let at = at.as_microsecond() as f64 / 1e6;
                if seen.windows.last() != Some(&at) {
                    seen.windows.push(at);
                }
            }
            Ok(answer) => seen.failures.push(answer.text()),
            Err(error) => seen.failures.push(format!("{error:#}")),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

/// The sockets of the server of a process: the other end, and whether it still holds anything for it.
fn sockets(id: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{id}/net/tcp")).expect("its sockets");
    let port = format!(":{:04X}", GATEWAY.port());
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, other, state) = (words.next()?, words.next()?, words.next()?);
            // Not TIME_WAIT, which holds nothing, and not the listener.
            let lives = local.ends_with(&port) && !matches!(state, "06" | "0A");
            lives.then(|| other.to_owned())
        })
        .collect()
}

/// What was seen of the agent from beside.
#[derive(Default)]
struct Watch {
    /// The longest life of a socket.
    oldest: Duration,
    /// The most sockets at a time.
    most: usize,
    /// Resident memory at most, in KiB.
    resident: u64,
}

/// Watches until it is over and no socket is left.
fn watch(id: u32, over: &AtomicBool) -> Watch {
    let mut seen = Watch::default();
    let mut since: BTreeMap<String, Instant> = BTreeMap::new();
    let begun = Instant::now();
    loop {
        let done = over.load(Ordering::Relaxed);
        let now = Instant::now();
        let sockets = sockets(id);
        seen.most = seen.most.max(sockets.len());
        since.retain(|socket, _| sockets.contains(socket));
        for socket in sockets {
            let since = *since.entry(socket).or_insert(now);
            seen.oldest = seen.oldest.max(now - since);
        }
        seen.resident = seen.resident.max(reached::in_status(id, "VmRSS"));
        if (done && since.is_empty()) || begun.elapsed() > LIMIT {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts the attacker's program, once for each address that it comes from.
fn begin(lab: &Lab, attack: &Attack) -> Vec<Process> {
    let each = CONNECTIONS / usize::from(attack.addresses);
    let rate = (RATE / usize::from(attack.addresses)).to_string();
    let path = match attack.arguments[0].as_str() {
        "-B" => "/api/v1/relays",
        "-X" => "/api/openapi.json",
        _ => "/",
    };
    (0..attack.addresses)
        .map(|number| {
            // The address that is talked to decides from which address.
            let to = match attack.addresses {
                1 => GATEWAY.ip(),
                _ => served(number),
            };
            let url = format!("http://{to}:{}{path}", GATEWAY.port());
            let (each, length) = (each.to_string(), ATTACK.to_string());
            // On machines of its own it would take no time of the agent's.
            let mut arguments = vec!["-n", "19", "slowhttptest"];
            arguments.extend(["-c", &each, "-r", &rate, "-l", &length, "-u", &url]);
            arguments.extend(attack.arguments.iter().map(String::as_str));
            lab.spawn("slow", "nice", &arguments)
                .expect("slowhttptest, of the package of that name")
        })
        .collect()
}

/// A further address of the gateway.
fn served(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 100 + number).into()
}

/// Further addresses of the attacker, and a way from each to an address of the gateway.
fn spread(lab: &Lab) {
    for number in 0..ADDRESSES {
        let (to, from) = (served(number), Ipv4Addr::new(198, 51, 100, 220 + number));
        lab.ip("gateway", &format!("addr add {to}/32 dev lo"))
            .expect("an address");
        lab.ip("slow", &format!("addr add {from}/24 dev eth0"))
            .expect("an address");
        lab.ip(
            "slow",
            &format!("route add {to} via 198.51.100.1 src {from}"),
        )
        .expect("a route");
    }
}

#[test]
fn a_thousand_slow_connections_hold_up_neither_others_nor_windows() {
    let lab = Lab::gateway("tslow", Topology::default()).expect("a laboratory");
    for name in ["mail", "slow", "other"] {
        lab.add_client(name).expect("a client");
    }
    spread(&lab);
    // What was counted goes no further.
    lab.ip("gateway", &format!("route add blackhole {}", server(1)))
        .expect("a route");
    let mut agent = reached::start(&lab, "");
    let id = agent.id();
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let mail = scope.spawn(|| {
            lab.within("mail", || volley::fire(MAIL, &over))
                .expect("a thread in the namespace")
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // What it takes for itself once it answers, it has taken.
            let quiet = AtomicBool::new(false);
            let before = std::thread::scope(|scope| {
                let one = scope.spawn(|| lab.within("other", || behave(&quiet)));
                std::thread::sleep(Duration::from_secs(2));
                quiet.store(true, Ordering::Relaxed);
                one.join().expect("a client").expect("a namespace")
            });
            println!(
                "without an attack: {} answers, p99 {:?}",
                before.times.len(),
                before.percentile(99)
            );
            let attacks = attacks();
            let faults = attacks
                .iter()
                .flat_map(|attack| endure(&lab, id, attack))
                .collect::<Vec<_>>();
            assert!(faults.is_empty(), "{}", faults.join("\n"));
        }));
        over.store(true, Ordering::Relaxed);
        let sent = mail.join().expect("the mail");
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sent
    });
    assert!(agent.is_running(), "{}", agent.log_text());
    assert!(!agent.log_text().contains("panic"), "{}", agent.log_text());
    let packets = sent.values().map(Totals::packets).sum();
    reached::has_counted(&lab, packets);
}

/// One attack: what of it is not as it should be for others.
fn endure(lab: &Lab, id: u32, attack: &Attack) -> Vec<String> {
    let name = attack.name;
    let descriptors = reached::descriptors(id);
    let resident = reached::in_status(id, "VmRSS");
    let over = AtomicBool::new(false);
    let (other, same, seen) = std::thread::scope(|scope| {
        let [other, same] = ["other", "slow"].map(|namespace| {
            let over = &over;
            scope.spawn(move || {
                lab.within(namespace, || behave(over))
                    .expect("a thread in the namespace")
            })
        });
        let watch = scope.spawn(|| watch(id, &over));
        let mut programs = begin(lab, attack);
        for program in &mut programs {
            program.wait(LIMIT).expect("it ends");
        }
        over.store(true, Ordering::Relaxed);
        (
            other.join().expect("a client"),
            same.join().expect("a client"),
            watch.join().expect("a watch"),
        )
    });
    let grown = seen.resident.saturating_sub(resident);
    let of = |seen: &Seen| {
        format!(
            "{} answers, p99 {:?}, longest {:?}, {} failures",
            seen.times.len(),
            seen.percentile(99),
            seen.percentile(100),
            seen.failures.len()
        )
    };
    println!(
        "{name}: elsewhere {}; at the same address {}; at most {} sockets, the oldest {:.1} s; \
         {grown} KiB more; longest window {:.3} s",
        of(&other),
        of(&same),
        seen.most,
        seen.oldest.as_secs_f64(),
        other.longest_window()
    );
    let mut faults = Vec::new();
    let mut check = |good: bool, what: String| {
        if !good {
            faults.push(format!("{name}: {what}"));
        }
    };
    // The attack was one, or nothing was shown.
    check(seen.most > 30, format!("{} sockets at a time", seen.most));
    for (who, seen) in [("elsewhere", &other), ("at the same address", &same)] {
        let failed = seen.failures.first();
        check(failed.is_none(), format!("a client {who}: {failed:?}"));
        let answers = seen.times.len();
        check(answers > 100, format!("{answers} answers {who}"));
        let slowest = seen.percentile(99);
        check(slowest < ANSWER, format!("p99 {who} is {slowest:?}"));
    }
    let window = other.longest_window();
    check(window < WINDOW, format!("a window of {window} s"));
    check(
        other.windows.len() > 3,
        format!("windows end at {:?}", other.windows),
    );
    check(
        seen.oldest < LIFE,
        format!("a slow socket lived {:?}", seen.oldest),
    );
    check(grown < GROWTH, format!("{grown} KiB more"));
    let back = poll_until(Duration::from_secs(5), || {
        reached::descriptors(id) <= descriptors
    });
    let after = reached::descriptors(id);
    check(
        back,
        format!("{descriptors} descriptors before, {after} after"),
    );
    faults
}
