//! What a meter needs to know, and the sizes of tables that nobody has chosen.

use std::path::PathBuf;

use ipnet::IpNet;
use smtp_common::flow::{FlowSet, Header, MAX_CPUS, SourceStats};
use smtp_common::table::{Geometry, Set};

use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::privilege::Account;

/// Most memory that the table of sources, and likewise that of flows, takes where its size is not
/// configured, on all CPUs together.
const DEFAULT_TABLE_BYTES: u64 = 256 << 20;
/// Sets per CPU where that much memory allows it: one half of one CPU is then 4 MiB, which stays in
/// cache as far as it is used.
const DEFAULT_SETS: u32 = 1 << 15;
/// Sets of flows, likewise.
const DEFAULT_FLOW_SETS: u32 = 1 << 14;

/// What a meter needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Mail ports; 0 marks an unused place.
    pub ports: [u16; 4],
    /// The shape of the tables.
    pub geometry: Geometry,
    /// Places for own hosts whose set is full.
    pub spill: u32,
    /// The operator's own prefixes.
    pub local: Vec<IpNet>,
    /// Our directory in bpffs.
    pub pins: PathBuf,
    /// The group of the agent's user, which may use what is pinned there.
    pub group: Option<u32>,
}

impl Options {
    /// The options that this configuration means on this machine.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(path, error)| anyhow::anyhow!("cannot read {path}: {error}"))?;
        if cpus > MAX_CPUS {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "this machine may have {cpus} CPUs, and the tables have places for {MAX_CPUS}"
                ),
            ));
        }
        let cpus = cpus as u32;
        let mut ports = [0; 4];
        for (place, port) in ports.iter_mut().zip(&config.meter.ports) {
            *place = *port;
        }
        Ok(Self {
            ports,
            geometry: Geometry {
                cpus,
                sets: config.table.sets_per_cpu.unwrap_or(default_sets(cpus)),
                syn_slots: config.table.syn_slots,
                flow_sets: config
                    .table
                    .flow_sets_per_cpu
                    .unwrap_or(default_flow_sets(cpus)),
            },
            spill: config.table.spill,
            local: config.networks.local.clone(),
            pins: config.meter.pins.clone(),
            group: config
                .agent
                .user
                .as_deref()
                .map(Account::find)
                .transpose()?
                .map(|account| account.gid),
        })
    }

    /// Bytes of kernel memory that the tables take.
    pub const fn table_bytes(&self) -> u64 {
        let Geometry {
            cpus, syn_slots, ..
        } = self.geometry;
        self.geometry.total_sets() as u64 * size_of::<Set>() as u64
            + self.geometry.total_flow_sets() as u64 * size_of::<FlowSet>() as u64
            + syn_slots as u64 * size_of::<u64>() as u64
            + 2 * MAX_CPUS as u64 * size_of::<Header>() as u64
            + self.spill as u64 * cpus as u64 * size_of::<SourceStats>() as u64
    }
}

/// [`DEFAULT_SETS`], or the largest power of two that keeps to [`DEFAULT_TABLE_BYTES`].
fn default_sets(cpus: u32) -> u32 {
    fitting_sets(cpus, size_of::<Set>()).min(DEFAULT_SETS)
}

/// The same for flows.
fn default_flow_sets(cpus: u32) -> u32 {
    fitting_sets(cpus, size_of::<FlowSet>()).min(DEFAULT_FLOW_SETS)
}

fn fitting_sets(cpus: u32, bytes: usize) -> u32 {
    let fitting = DEFAULT_TABLE_BYTES / (2 * u64::from(cpus) * bytes as u64);
    1 << fitting.max(1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_table_stays_within_its_memory_on_any_machine() {
        assert_eq!(default_sets(2), DEFAULT_SETS);
        assert_eq!(default_sets(32), DEFAULT_SETS);
        assert_eq!(default_sets(64), DEFAULT_SETS / 2);
        for cpus in 1..=MAX_CPUS as u32 {
            let sets = default_sets(cpus);
            assert!(sets.is_power_of_two());
            let bytes = 2 * u64::from(cpus) * u64::from(sets) * size_of::<Set>() as u64;
            assert!(bytes <= DEFAULT_TABLE_BYTES, "{cpus} CPUs: {bytes} bytes");
        }
    }
}
