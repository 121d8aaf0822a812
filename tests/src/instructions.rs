//! What a kernel object does, by its instructions: which helpers it calls, and where it stores.
//!
//! Contract: [`calls`] reads the object file itself. [`stores`] reads what the kernel's verifier says
//! about every instruction on every path (its log at level 2), types of pointers included. What
//! either cannot read, it panics about: a check that overlooks something is none.

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Classes and operations of instructions (RFC 9669, section 3).
const CLASS: u8 = 0x07;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const CALL: u8 = 0x85;
const CALL_REGISTER: u8 = 0x8d;

/// A call in the code of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A helper, by its number in include/uapi/linux/bpf.h.
    Helper(u32),
    /// A function of the object.
    Local,
    /// A function of the kernel that is no helper.
    Kernel,
    /// Whatever a register points to.
    Register,
}

/// The calls in each section of code of an ELF object for little-endian BPF.
pub fn calls(object: &[u8]) -> BTreeMap<String, BTreeSet<Call>> {
    let number = |at: usize, octets: usize| -> usize {
        let mut value = [0; 8];
        value[..octets].copy_from_slice(&object[at..at + octets]);
        u64::from_le_bytes(value) as usize
    };
    // System V ABI, ELF-64: e_ident, e_machine, e_shoff, e_shentsize, e_shnum, e_shstrndx.
    assert_eq!(
        object[..6],
        *b"\x7fELF\x02\x01",
        "no ELF-64 in little endian"
    );
    assert_eq!(number(18, 2), 247, "no object for BPF");
    let header = |index: usize| number(40, 8) + index * number(58, 2);
    let names = number(header(number(62, 2)) + 24, 8);
    let mut found = BTreeMap::new();
    for section in (0..number(60, 2)).map(header) {
        // sh_flags: SHF_EXECINSTR.
        if number(section + 8, 8) & 4 == 0 {
            continue;
        }
        let name = names + number(section, 4);
        let end = name
            + object[name..]
                .iter()
                .position(|octet| *octet == 0)
                .expect("an end");
        let name = String::from_utf8_lossy(&object[name..end]).into_owned();
        let (offset, size) = (number(section + 24, 8), number(section + 32, 8));
        let code = object[offset..offset + size].chunks_exact(8);
        let calls = code.filter_map(|instruction| match (instruction[0], instruction[1] >> 4) {
            (CALL, 0) => {
                let number = instruction[4..].try_into().expect("four octets");
                Some(Call::Helper(u32::from_le_bytes(number)))
            }
            (CALL, 1) => Some(Call::Local),
            (CALL, _) => Some(Call::Kernel),
            (CALL_REGISTER, _) => Some(Call::Register),
            _ => None,
        });
        found.insert(name, calls.collect());
    }
    found
}

/// A store, as the verifier has seen it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Store {
    /// The instruction's number and text.
    pub instruction: String,
    /// The type of the register that it stores through.
    pub base: String,
}

/// The verifier's log of a program, at the level that has every instruction and its registers.
pub fn verifier_log(loader: &mut EbpfLoader<'_>, object: &[u8], program: &str) -> String {
    log_at(
        VerifierLogLevel::VERBOSE | VerifierLogLevel::STATS,
        loader,
        object,
        program,
    )
}

/// How many instructions the verifier walks for a program, by its log: kernels before 5.16 tell it
/// nowhere else.
pub fn walked(loader: &mut EbpfLoader<'_>, object: &[u8], program: &str) -> u32 {
    let log = log_at(VerifierLogLevel::STATS, loader, object, program);
    log.lines()
        .filter_map(|line| line.strip_prefix("processed ")?.split_once(' '))
        .find_map(|(number, _)| number.parse().ok())
        .unwrap_or_else(|| panic!("no statistics in the verifier's log: {log}"))
}

/// The verifier's log of a program that it takes.
///
/// The kernel hands the log over whatever becomes of the program, but aya keeps it only when loading
/// fails. So this process may open no file meanwhile: the program is verified in full, and then the
/// kernel finds no descriptor for it.
fn log_at(
    level: VerifierLogLevel,
    loader: &mut EbpfLoader<'_>,
    object: &[u8],
    program: &str,
) -> String {
    loader.btf(None).verifier_log_level(level);
    let mut ebpf: Ebpf = loader
        .load(object)
        .unwrap_or_else(|error| panic!("cannot load the object: {error}"));
    let program = ebpf.program_mut(program).expect("a program of this name");
    let program: &mut Xdp = program.try_into().expect("an XDP program");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("a lower limit");
    let loaded = program.load();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the old limit");
    let Err(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = loaded
    else {
        panic!("loading did not end in want of a descriptor: {loaded:?}");
    };
    let log = verifier_log.to_string();
    assert_eq!(
        io_error.raw_os_error(),
        Some(nix::errno::Errno::EMFILE as i32),
        "{io_error}; the verifier: {}",
        &log[log.len().saturating_sub(2_000)..]
    );
    log
}

/// Every store in a log, once for each type that its base has had.
pub fn stores(log: &str) -> BTreeSet<Store> {
    let mut registers: BTreeMap<String, String> = BTreeMap::new();
    let mut stores = BTreeSet::new();
    for line in log.lines() {
        let line = line.trim_end();
        // All registers of another path ("from 12 to 34: R0=... R1=..."), or of a function that is
        // called or returned to (" R0=...", " frame1: R1=...").
        if ["from ", " R", " frame"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            registers.clear();
            note(line, &mut registers);
            continue;
        }
        // "12: (7b) *(u64 *)(r10 -8) = r1 ; R1=... fp-8=...", and "12: R1=ctx() R10=fp0".
        let Some((number, rest)) = line.split_once(": ") else {
            continue;
        };
        if number.is_empty() || !number.bytes().all(|octet| octet.is_ascii_digit()) {
            continue;
        }
        let (text, state) = rest.split_once(';').unwrap_or(if rest.starts_with('(') {
            (rest, "")
        } else {
            ("", rest)
        });
        if let Some((code, _)) = text.strip_prefix('(').and_then(|text| text.split_once(')')) {
            let code = u8::from_str_radix(code, 16).unwrap_or_else(|_| panic!("{line}"));
            if [ST, STX].contains(&(code & CLASS)) {
                stores.insert(store(number, text.trim(), &registers));
            }
        }
        note(state, &mut registers);
    }
    stores
}

/// Takes the types out of "R1_w=pkt(r=14) R2=scalar()".
fn note(state: &str, registers: &mut BTreeMap<String, String>) {
    for word in state.split_whitespace() {
        let Some((name, value)) = word.strip_prefix('R').and_then(|word| word.split_once('='))
        else {
            continue;
        };
        let number: String = name.chars().take_while(char::is_ascii_digit).collect();
        let kind: String = value
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        registers.insert(format!("r{number}"), kind);
    }
}

fn store(number: &str, text: &str, registers: &BTreeMap<String, String>) -> Store {
    // "*(u64 *)(r10 -8) = r1", "lock *(u64 *)(r1 +0) += r2".
    let base = text
        .split_once("*)(")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("no base in {text}"));
    let kind = registers
        .get(base)
        .unwrap_or_else(|| panic!("the log does not say what {base} is at {number}: {text}"));
    Store {
        instruction: format!("{number}: {text}"),
        base: kind.clone(),
    }
}
