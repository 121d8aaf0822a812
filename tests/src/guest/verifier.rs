//! Every section with every set of options, as this kernel's verifier takes it.

use aya::EbpfLoader;
use smtp_common::packet::MailPorts;
use smtp_common::table::Geometry;
use smtp_user::meter::xdp::{FRAGS, Options, PLAIN, Section, XdpMeter};

use super::checks::{figure, without};
use super::kernel;
use crate::instructions::walked;
use crate::programs::agent_object;
use crate::{meter, options};

/// Far below the kernel's limit of a million, so that no new kernel's other way of counting matters.
const MOST: u32 = 20_000;

/// What is a constant to the verifier, and so may lead it other ways: sizes and ports.
fn sets() -> Vec<Options> {
    let plain = options("guest-load", 15);
    let mut all = plain.clone();
    all.ports = [25, 465, 587, 2525];
    all.local = vec![
        "198.51.100.0/24".parse().expect("a prefix"),
        "2001:db8::/32".parse().expect("a prefix"),
    ];
    all.spill = 16_384;
    let mut small = options("guest-load", 6);
    small.geometry.syn_slots = 1;
    let mut without_flows = plain.clone();
    without_flows.geometry.flow_sets = 0;
    vec![plain, all, small, without_flows]
}

/// Loads them all.
pub fn load() {
    let sets = sets();
    let mut worst = 0;
    for section in [PLAIN, FRAGS] {
        let mut most = 0;
        for options in &sets {
            let mut meter = meter(options);
            let counted = match instructions(&mut meter, section, options) {
                Ok(counted) => counted,
                Err(error) => {
                    let known = section == FRAGS && !kernel::has_frags();
                    assert!(known, "{options:?}: {error:#}");
                    0
                }
            };
            meter.detach().expect("the pins can be removed");
            println!("section {}, {options:?}: {counted}", section.name);
            worst = worst.max(counted);
            most = most.max(counted);
        }
        if most > 0 {
            figure(&format!("instructions_{}", section.name), most);
        } else {
            without("section xdp.frags, which came with 5.18; section xdp in its place");
        }
    }
    figure("option_sets", sets.len());
    assert!(worst <= MOST, "the verifier walks {worst} instructions");
}

/// Loads a section, and says how many instructions the verifier walked.
fn instructions(meter: &mut XdpMeter, section: Section, options: &Options) -> anyhow::Result<u32> {
    let told = meter.verified_instructions(section)?;
    Ok(told.unwrap_or_else(|| by_the_log(section, options)))
}

fn by_the_log(section: Section, options: &Options) -> u32 {
    let Geometry {
        sets,
        syn_slots,
        flow_sets,
        ..
    } = options.geometry;
    let sizes = [sets, flow_sets, syn_slots];
    let ports = MailPorts::new(options.ports).word();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("MAIL_PORTS", &ports, true)
        .override_global("SIZES", &sizes, true)
        .map_max_entries("SOURCES", options.geometry.total_sets())
        .map_max_entries("FLOWS", options.geometry.total_flow_sets())
        .map_max_entries("SYNS", syn_slots);
    walked(&mut loader, agent_object(), section.program)
}
