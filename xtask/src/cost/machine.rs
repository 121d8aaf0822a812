//! The machine that a report was made on: what its figures depend on, and nothing that names it.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A machine. What the kernel does not say is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that are there.
    pub cpus: u64,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
    /// Caches of the first processor: `L1d 48K`.
    pub caches: Vec<String>,
    /// MiB of memory.
    pub memory_mib: u64,
    /// Version of the kernel.
    pub kernel: String,
    /// Weaknesses of the processor that the kernel works around, by the names of its files.
    pub mitigations: Vec<String>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        Self {
            cpu: field(&cpuinfo, "model name").to_owned(),
            cpus: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count() as u64,
            virtual_machine: field(&cpuinfo, "flags")
                .split_whitespace()
                .any(|flag| flag == "hypervisor"),
            caches: caches(),
            memory_mib: field(&meminfo, "MemTotal")
                .split_whitespace()
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            kernel: version(&read("/proc/sys/kernel/osrelease")).to_owned(),
            mitigations: mitigations(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cpus,
            virtual_machine,
            caches,
            memory_mib,
            kernel,
            mitigations,
        } = self;
        let kind = if *virtual_machine {
            "virtual machine"
        } else {
            "machine"
        };
        write!(f, "{kind} with {cpus} CPUs ({cpu}")?;
        if !caches.is_empty() {
            write!(f, ", {}", caches.join(", "))?;
        }
        let gib = (memory_mib + 512) / 1024;
        write!(f, "), {gib} GiB, Linux {kernel}, mitigations: ")?;
        if mitigations.is_empty() {
            write!(f, "none")
        } else {
            write!(f, "{}", mitigations.join(", "))
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or("", |(_, value)| value.trim())
}

/// The numbers of a release: what follows them is whatever its builder liked.
fn version(release: &str) -> &str {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
    release[..end.unwrap_or(release.len())].trim_end_matches('.')
}

fn caches() -> Vec<String> {
    let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
    (0..)
        .map(|index| folder.join(format!("index{index}")))
        .take_while(|cache| cache.is_dir())
        .map(|cache| {
            let read = |name: &str| fs::read_to_string(cache.join(name)).unwrap_or_default();
            let kind = match read("type").trim() {
                "Data" => "d",
                "Instruction" => "i",
                _ => "",
            };
            format!("L{}{kind} {}", read("level").trim(), read("size").trim())
        })
        .collect()
}

fn mitigations() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let state = fs::read_to_string(entry.path()).ok()?;
            state.starts_with("Mitigation").then_some(())?;
            entry.file_name().into_string().ok()
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_keeps_its_numbers_alone() {
        assert_eq!(version("6.12.38+deb13-cloud-amd64\n"), "6.12.38");
        assert_eq!(version("7.2.0-rc1"), "7.2.0");
        assert_eq!(version("6.18.4"), "6.18.4");
        assert_eq!(version(""), "");
    }

    #[test]
    fn this_machine_has_a_kernel_and_processors() {
        let this = Machine::this();
        assert!(this.cpus > 0 && this.memory_mib > 0);
        assert!(this.kernel.starts_with(|c: char| c.is_ascii_digit()));
        assert!(this.to_string().contains(&this.kernel));
    }
}
