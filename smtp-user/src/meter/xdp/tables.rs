//! The maps: made, or taken over from a smtpflow that ended without detaching.
//!
//! Contract: pinned maps are used again only if they have exactly the shape that this agent would
//! give them. aya opens a pinned map without comparing anything, so all comparing is done here,
//! before it does.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError, PerCpuHashMap};
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type};
use ipnet::IpNet;
use smtp_common::flow::{FlowSet, Header, MAX_CPUS, SourceStats, SpillKey, notice};
use smtp_common::packet::{Address, MailPorts};
use smtp_common::table::{AddressSeeds, Geometry, Set};

use super::Options;
use super::identity::{Identity, IdentityWords};
use super::mapped::MappedArray;
use super::pins::Pins;
use crate::failure::{Failure, Kind};

/// The kernel object, built from `smtp-ebpf` by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smtpflow-xdp"));

/// A value of the header arrays, as the map interface of aya sees it.
pub(super) type HeaderWords = [u64; size_of::<Header>() / 8];
/// A key and a value of the spill, likewise.
pub(super) type SpillKeyWords = [u64; size_of::<SpillKey>() / 8];
pub(super) type StatsWords = [u64; size_of::<SourceStats>() / 8];

/// The maps of the object that outlive the agent.
const OBJECT_MAPS: [&str; 6] = ["EPOCH", "SOURCES", "FLOWS", "SYNS", "OWN", "SPILL"];
const HEADER_MAPS: [&str; 2] = ["COUNTERS_0", "COUNTERS_1"];
const IDENTITY_MAP: &str = "IDENTITY";

/// The half of new tables that is written first, and the number of its window.
const FIRST_HALF: u32 = 0;
const FIRST_EPOCH: u64 = 1;

/// The maps that the agent reads and writes.
pub struct Tables {
    pub geometry: Geometry,
    identity: Identity,
    /// Places for own prefixes.
    own_entries: u32,
    own: OwnPrefixes,
    /// The own prefixes that are in there.
    local: Vec<IpNet>,
    /// A random number: other tables, another number.
    pub id: u64,
    /// Flips by taking the other header array.
    pub(super) epoch: ArrayOfMaps<MapData, Array<MapData, HeaderWords>>,
    pub(super) header_maps: [Array<MapData, HeaderWords>; 2],
    pub(super) headers: [MappedArray<Header>; 2],
    pub(super) sources: MappedArray<Set>,
    pub(super) flows: MappedArray<FlowSet>,
    pub(super) spill: PerCpuHashMap<MapData, SpillKeyWords, StatsWords>,
    /// Bytes of kernel memory in all maps together.
    pub bytes: u64,
    /// Whether they were there before, with counts in them.
    pub taken_over: bool,
    /// Held because a program that is loaded later names its maps by these descriptors.
    _descriptors: (MapData, MapData, MapData),
}

/// Places for own prefixes that there are at least, so that a list may grow while the program runs. The
/// kernel makes entries of such a map when they are written, so places cost nothing.
const OWN_ENTRIES: usize = 1 << 16;

type OwnPrefixes = LpmTrie<MapData, [u8; 16], u32>;

impl Tables {
    /// The seeds of the hash by which the program finds an address.
    pub const fn address_seeds(&self) -> AddressSeeds {
        self.identity.address_seeds
    }

    /// Loads the object (not yet its programs) and makes or takes over its maps.
    pub fn load(options: &Options, pins: &Pins) -> Result<(Self, Ebpf), Failure> {
        let pinned = pinned_identity(pins)?;
        let identity = match pinned {
            Some(identity) => {
                check_choices(&identity, options, pins)?;
                identity
            }
            None => {
                remove_unfinished(pins)?;
                Identity::new(options)?
            }
        };
        let own_entries = u32::try_from(options.local.len().max(OWN_ENTRIES))
            .context("more own prefixes than a map can hold")?;
        if pinned.is_some() {
            // The prefix list may have changed, and its size with it. Programs that run keep the
            // old list until theirs is replaced.
            pins.remove("OWN")?;
            check_shapes(&identity.geometry, pins)?;
        }

        let mut ebpf = load_object(OBJECT, &identity, own_entries, pins)?;

        let own = own_prefixes(&mut ebpf, &options.local)?;
        let sources = array_data(&mut ebpf, "SOURCES")?;
        let flows = array_data(&mut ebpf, "FLOWS")?;
        let syns = array_data(&mut ebpf, "SYNS")?;
        let header_data = [open_headers(pins, 0)?, open_headers(pins, 1)?];
        let mut headers = [
            MappedArray::new(&header_data[0])?,
            MappedArray::new(&header_data[1])?,
        ];
        let taken_over = pinned.is_some();
        if !taken_over {
            for (half, headers) in headers.iter_mut().enumerate() {
                initialise_headers(headers, &identity.geometry, half as u32);
            }
            // Last: a directory without it is unfinished.
            make_identity(pins, &identity)?;
        }
        let [first, second] = header_data;
        let mut tables = Self {
            geometry: identity.geometry,
            identity,
            own_entries,
            own,
            local: options.local.clone(),
            id: identity.table_id,
            epoch: ArrayOfMaps::try_from(take(&mut ebpf, "EPOCH")?).context("EPOCH")?,
            header_maps: [
                Array::try_from(Map::Array(first)).context("COUNTERS_0")?,
                Array::try_from(Map::Array(second)).context("COUNTERS_1")?,
            ],
            headers,
            sources: MappedArray::new(&sources)?,
            flows: MappedArray::new(&flows)?,
            spill: PerCpuHashMap::try_from(take(&mut ebpf, "SPILL")?).context("SPILL")?,
            bytes: options.table_bytes(),
            taken_over,
            _descriptors: (sources, flows, syns),
        };
        if !taken_over {
            tables.flip_to(FIRST_HALF)?;
        }
        Ok((tables, ebpf))
    }

    /// Makes these the own prefixes. The new ones are written before others are taken away, so that no
    /// host that is in both lists loses its reserve for a moment.
    ///
    /// # Errors
    ///
    /// There are too many, or the kernel refuses: then some of the new ones may be there in addition.
    pub fn set_local(&mut self, local: &[IpNet]) -> Result<(), Failure> {
        if local.len() > self.own_entries as usize {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "{} own prefixes are more than the kernel's map has places for ({}): a restart \
                     makes a larger one",
                    local.len(),
                    self.own_entries
                ),
            ));
        }
        // Of both lists at a time there may be more than places.
        let crowded = local.len() + self.local.len() > self.own_entries as usize;
        if crowded {
            self.forget_all_but(local)?;
        }
        for prefix in local {
            insert_own(&mut self.own, prefix)?;
        }
        if !crowded {
            self.forget_all_but(local)?;
        }
        self.local = local.to_vec();
        Ok(())
    }

    fn forget_all_but(&mut self, local: &[IpNet]) -> Result<(), Failure> {
        let kept: HashSet<_> = local.iter().map(IpNet::trunc).collect();
        let gone: HashSet<_> = self.local.iter().map(IpNet::trunc).collect();
        for prefix in gone.difference(&kept) {
            match self.own.remove(&own_key(prefix)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => {
                    let what = format!("cannot take the own prefix {prefix} from the kernel");
                    return Err(super::refusal(error, &what));
                }
            }
        }
        Ok(())
    }

    /// Loads another object (not yet its programs) onto these maps.
    pub fn load_beside(&self, object: &[u8], pins: &Pins) -> Result<Ebpf, Failure> {
        load_object(object, &self.identity, self.own_entries, pins)
    }
}

/// Loads an object whose body is `count` of `smtp-ebpf`. It makes and pins the maps of this identity,
/// or uses the ones that are pinned.
fn load_object(
    object: &[u8],
    identity: &Identity,
    own_entries: u32,
    pins: &Pins,
) -> Result<Ebpf, Failure> {
    let Geometry {
        cpus: _,
        sets,
        syn_slots,
        flow_sets,
    } = identity.geometry;
    let sizes = [sets, flow_sets, syn_slots];
    let mail_ports = MailPorts::new(identity.ports).word();
    let mut loader = EbpfLoader::new();
    loader
        // The program relocates nothing against the running kernel, so its BTF is not needed.
        .btf(None)
        .map_max_entries("SOURCES", identity.geometry.total_sets())
        .map_max_entries("FLOWS", identity.geometry.total_flow_sets())
        .map_max_entries("SYNS", syn_slots)
        .map_max_entries("SPILL", identity.spill)
        .map_max_entries("OWN", own_entries)
        .override_global("MAIL_PORTS", &mail_ports, true)
        .override_global("SIZES", &sizes, true)
        .override_global("ADDRESS_SEEDS", &identity.address_seeds, true)
        .override_global("SYN_SEEDS", &identity.syn_seeds, true);
    for name in OBJECT_MAPS {
        loader.map_pin_path(name, pins.path(name));
    }
    loader
        .load(object)
        .map_err(|error| super::refusal(error, "cannot load the kernel object"))
}

/// The identity of the maps that are pinned, if there are any.
fn pinned_identity(pins: &Pins) -> Result<Option<Identity>, Failure> {
    let path = pins.path(IDENTITY_MAP);
    if !path.exists() {
        return Ok(None);
    }
    let map = open_pinned(&path)?;
    let map: Array<_, IdentityWords> =
        Array::try_from(Map::Array(map)).context("cannot read the identity of the pinned maps")?;
    let words = map
        .get(&0, 0)
        .context("cannot read the identity of the pinned maps")?;
    let identity = Identity::from_words(&words).with_context(|| {
        format!(
            "the maps pinned at {} are of another layout: remove them with smtpflow detach",
            path.display()
        )
    })?;
    Ok(Some(identity))
}

fn make_identity(pins: &Pins, identity: &Identity) -> Result<(), Failure> {
    let map = make_array::<IdentityWords>(IDENTITY_MAP, 1, 0)?;
    map.pin(pins.path(IDENTITY_MAP))
        .context("cannot pin the identity of the maps")?;
    let mut map: Array<_, IdentityWords> =
        Array::try_from(Map::Array(map)).context("cannot write the identity of the maps")?;
    map.set(0, identity.to_words(), 0)
        .context("cannot write the identity of the maps")?;
    Ok(())
}

fn check_choices(pinned: &Identity, options: &Options, pins: &Pins) -> Result<(), Failure> {
    let wanted = (options.geometry, options.ports, options.spill);
    if pinned.choices() == wanted {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Unavailable,
        format!(
            "the maps pinned in {} still count, with other settings (they have {:?}, wanted \
             {wanted:?} as geometry, ports, spill): start with theirs, or end them with smtpflow \
             detach, which drops what they counted since the last drain",
            pins.path("").display(),
            pinned.choices(),
        ),
    ))
}

/// Maps without an identity are what a start left that was killed half-way: nothing counts in them,
/// unless a link is there, and then they are not ours to judge.
fn remove_unfinished(pins: &Pins) -> Result<(), Failure> {
    let linked = pins.linked_interfaces()?;
    if !linked.is_empty() {
        return Err(Failure::new(
            Kind::Unavailable,
            format!(
                "{} has links to {} but no complete set of maps: end them with smtpflow detach",
                pins.path("").display(),
                linked.join(", ")
            ),
        ));
    }
    for name in OBJECT_MAPS.iter().chain(&HEADER_MAPS) {
        pins.remove(name)?;
    }
    Ok(())
}

/// Compares what is pinned with what the loader would make. `EPOCH`, the headers and the spill have
/// sizes that are in the identity or fixed by the layout version.
fn check_shapes(geometry: &Geometry, pins: &Pins) -> Result<(), Failure> {
    let shapes = [
        ("SOURCES", size_of::<Set>(), geometry.total_sets()),
        ("FLOWS", size_of::<FlowSet>(), geometry.total_flow_sets()),
        ("SYNS", size_of::<u64>(), geometry.syn_slots),
    ];
    for (name, value_size, entries) in shapes {
        let path = pins.path(name);
        let info = open_pinned(&path)?
            .info()
            .with_context(|| format!("cannot ask for the shape of {}", path.display()))?;
        if (info.value_size() as usize, info.max_entries()) != (value_size, entries) {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "{} has {} entries of {} bytes, not {entries} of {value_size}: somebody else \
                     made it; remove it with smtpflow detach",
                    path.display(),
                    info.max_entries(),
                    info.value_size(),
                ),
            ));
        }
    }
    Ok(())
}

fn open_pinned(path: &Path) -> Result<MapData, Failure> {
    MapData::from_pin(path)
        .map_err(|error| super::refusal(error, &format!("cannot open the pin {}", path.display())))
}

fn make_array<T>(name: &str, entries: u32, flags: u32) -> Result<MapData, Failure> {
    let shape = aya_obj::Map::new_from_params(
        bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<T>() as u32,
        entries,
        flags,
    );
    MapData::create(shape, name, None)
        .map_err(|error| super::refusal(error, &format!("cannot make the map {name}")))
}

fn open_headers(pins: &Pins, half: usize) -> Result<MapData, Failure> {
    let name = HEADER_MAPS[half];
    let path = pins.path(name);
    if path.exists() {
        return open_pinned(&path);
    }
    let map = make_array::<Header>(name, MAX_CPUS as u32, BPF_F_MMAPABLE)?;
    map.pin(&path)
        .with_context(|| format!("cannot pin {}", path.display()))?;
    Ok(map)
}

#[expect(unsafe_code, reason = "borrows from mapped memory")]
fn initialise_headers(headers: &mut MappedArray<Header>, geometry: &Geometry, half: u32) {
    // SAFETY: no program that knows this map is attached yet.
    let headers = unsafe { headers.silent(0, geometry.cpus as usize) };
    for (cpu, header) in (0..).zip(headers) {
        *header = Header::new(half).of(geometry, cpu);
        if half == FIRST_HALF {
            header.epoch = FIRST_EPOCH;
        } else {
            // Said once per CPU, from the other half: in its first window there with a packet.
            header.notices = notice::STARTED;
            header.due = 0;
        }
    }
}

fn own_prefixes(ebpf: &mut Ebpf, local: &[IpNet]) -> Result<OwnPrefixes, Failure> {
    let mut own = OwnPrefixes::try_from(take(ebpf, "OWN")?).context("OWN")?;
    for prefix in local {
        insert_own(&mut own, prefix)?;
    }
    Ok(own)
}

fn insert_own(own: &mut OwnPrefixes, prefix: &IpNet) -> Result<(), Failure> {
    own.insert(&own_key(prefix), 1, 0).map_err(|error| {
        let what = format!("cannot tell the kernel the own prefix {prefix}");
        super::refusal(error, &what)
    })
}

fn own_key(prefix: &IpNet) -> Key<[u8; 16]> {
    let address = Address::from(prefix.network());
    let length = u32::from(prefix.prefix_len());
    let length = match prefix {
        IpNet::V4(_) => 96 + length,
        IpNet::V6(_) => length,
    };
    Key::new(length, address.octets())
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the kernel object has no map {name}"))
}

fn array_data(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<MapData> {
    match take(ebpf, name)? {
        Map::Array(data) => Ok(data),
        _ => anyhow::bail!("map {name} of the kernel object is not an array"),
    }
}

/// Whether this error of the kernel's means that permission is missing.
pub fn is_permission(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
