//! The maps: made, or taken over from a smtpflow that ended without detaching.
//!
//! Contract: pinned maps are used again only if they have exactly the shape that this agent would
//! give them. aya opens a pinned map without comparing anything, so all comparing is done here,
//! before it does.

use std::collections::HashSet;
use std::io;

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
use super::programs::Numbers;
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
const NUMBERS_MAP: &str = "PROGRAMS";
/// What an agent uses that has loaded nothing.
pub const READ: [&str; 8] = [
    IDENTITY_MAP,
    NUMBERS_MAP,
    "EPOCH",
    "COUNTERS_0",
    "COUNTERS_1",
    "SOURCES",
    "FLOWS",
    "SPILL",
];

/// The half of new tables that is written first, and the number of its window.
const FIRST_HALF: u32 = 0;
const FIRST_EPOCH: u64 = 1;

/// The maps that the agent reads and writes.
pub struct Tables {
    pub geometry: Geometry,
    identity: Identity,
    /// Places for own prefixes.
    own_entries: u32,
    /// `None` where a loader has made it, whose it is.
    own: Option<OwnPrefixes>,
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
    /// The kernel's numbers of the programs that write to these maps: of the newest, and of those before.
    numbers: Array<MapData, u32>,
    /// Held because a program that is loaded later names its maps by these descriptors.
    _descriptors: Option<(MapData, MapData, MapData)>,
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
            check_shapes(&identity.geometry, &["SOURCES", "FLOWS", "SYNS"], pins)?;
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
        let numbers =
            open_or_make::<u32>(pins, NUMBERS_MAP, 2 * Numbers::default().len() as u32, 0)?;
        let taken_over = pinned.is_some();
        if !taken_over {
            for (half, headers) in headers.iter_mut().enumerate() {
                initialise_headers(headers, &identity.geometry, half as u32);
            }
            // Last: a directory without it is unfinished.
            make_identity(pins, &identity)?;
        }
        let mut tables = Self {
            geometry: identity.geometry,
            identity,
            own_entries,
            own: Some(own),
            local: options.local.clone(),
            id: identity.table_id,
            epoch: ArrayOfMaps::try_from(take(&mut ebpf, "EPOCH")?).context("EPOCH")?,
            header_maps: header_maps(header_data)?,
            headers,
            sources: MappedArray::new(&sources)?,
            flows: MappedArray::new(&flows)?,
            spill: PerCpuHashMap::try_from(take(&mut ebpf, "SPILL")?).context("SPILL")?,
            bytes: options.table_bytes(),
            taken_over,
            numbers: Array::try_from(Map::Array(numbers)).context(NUMBERS_MAP)?,
            _descriptors: Some((sources, flows, syns)),
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
        let Some(own) = &mut self.own else {
            if self.local != local {
                tracing::warn!(
                    "the kernel's list of own prefixes is the loader's: run smtpflow attach to renew it"
                );
                self.local = local.to_vec();
            }
            return Ok(());
        };
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
            forget_own(own, &self.local, local)?;
        }
        for prefix in local {
            insert_own(own, prefix)?;
        }
        if !crowded {
            forget_own(own, &self.local, local)?;
        }
        self.local = local.to_vec();
        Ok(())
    }

    /// Opens the maps that a loader has made. Nothing is loaded, and none of the maps is opened that only
    /// programs use.
    pub fn join(options: &Options, pins: &Pins) -> Result<Self, Failure> {
        let identity = pinned_identity(pins)?.ok_or_else(|| {
            Failure::new(
                Kind::Unavailable,
                format!(
                    "nothing is attached: there are no maps in {}; run smtpflow attach as root",
                    pins.shown("")
                ),
            )
        })?;
        check_choices(&identity, options, pins)?;
        check_shapes(&identity.geometry, &["SOURCES", "FLOWS"], pins)?;
        let open = |name: &str| open_pinned(pins, name);
        let header_data = [open(HEADER_MAPS[0])?, open(HEADER_MAPS[1])?];
        Ok(Self {
            geometry: identity.geometry,
            identity,
            own_entries: 0,
            own: None,
            local: options.local.clone(),
            id: identity.table_id,
            epoch: ArrayOfMaps::try_from(Map::ArrayOfMaps(open("EPOCH")?)).context("EPOCH")?,
            headers: [
                MappedArray::new(&header_data[0])?,
                MappedArray::new(&header_data[1])?,
            ],
            header_maps: header_maps(header_data)?,
            sources: MappedArray::new(&open("SOURCES")?)?,
            flows: MappedArray::new(&open("FLOWS")?)?,
            spill: PerCpuHashMap::try_from(Map::PerCpuHashMap(open("SPILL")?)).context("SPILL")?,
            bytes: options.table_bytes(),
            taken_over: true,
            numbers: Array::try_from(Map::Array(open(NUMBERS_MAP)?)).context(NUMBERS_MAP)?,
            _descriptors: None,
        })
    }

    /// The numbers of the programs that write to these maps: [`Numbers`] of the newest, and then of those
    /// before them, which other links may still have.
    pub fn numbers(&self) -> anyhow::Result<Vec<u32>> {
        (0..self.numbers.len())
            .map(|place| self.numbers.get(&place, 0))
            .collect::<Result<_, _>>()
            .context("cannot read the numbers of the programs")
    }

    /// Tells the numbers of programs that are about to be attached.
    pub fn announce(&mut self, newest: Numbers) -> anyhow::Result<()> {
        let before = self.numbers()?;
        let places = newest.iter().chain(&before[..newest.len()]);
        for (place, number) in (0..self.numbers.len()).zip(places) {
            self.numbers
                .set(place, *number, 0)
                .context("cannot write the numbers of the programs")?;
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
    if !pins.path(IDENTITY_MAP).exists() {
        return Ok(None);
    }
    let map = open_pinned(pins, IDENTITY_MAP)?;
    let map: Array<_, IdentityWords> =
        Array::try_from(Map::Array(map)).context("cannot read the identity of the pinned maps")?;
    let words = map
        .get(&0, 0)
        .context("cannot read the identity of the pinned maps")?;
    let identity = Identity::from_words(&words).with_context(|| {
        format!(
            "the maps pinned at {} are of another layout: remove them with smtpflow detach",
            pins.shown(IDENTITY_MAP)
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
            pins.shown(""),
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
                pins.shown(""),
                linked.join(", ")
            ),
        ));
    }
    for name in OBJECT_MAPS.iter().chain(&HEADER_MAPS).chain([&NUMBERS_MAP]) {
        pins.remove(name)?;
    }
    Ok(())
}

/// Compares what is pinned with what the loader would make. `EPOCH`, the headers and the spill have
/// sizes that are in the identity or fixed by the layout version.
fn check_shapes(geometry: &Geometry, names: &[&str], pins: &Pins) -> Result<(), Failure> {
    let shapes = [
        ("SOURCES", size_of::<Set>(), geometry.total_sets()),
        ("FLOWS", size_of::<FlowSet>(), geometry.total_flow_sets()),
        ("SYNS", size_of::<u64>(), geometry.syn_slots),
    ];
    for (name, value_size, entries) in shapes {
        if !names.contains(&name) {
            continue;
        }
        let info = open_pinned(pins, name)?
            .info()
            .with_context(|| format!("cannot ask for the shape of {}", pins.shown(name)))?;
        if (info.value_size() as usize, info.max_entries()) != (value_size, entries) {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "{} has {} entries of {} bytes, not {entries} of {value_size}: somebody else \
                     made it; remove it with smtpflow detach",
                    pins.shown(name),
                    info.max_entries(),
                    info.value_size(),
                ),
            ));
        }
    }
    Ok(())
}

fn open_pinned(pins: &Pins, name: &str) -> Result<MapData, Failure> {
    MapData::from_pin(pins.path(name)).map_err(|error| {
        super::refusal(error, &format!("cannot open the pin {}", pins.shown(name)))
    })
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
    open_or_make::<Header>(pins, HEADER_MAPS[half], MAX_CPUS as u32, BPF_F_MMAPABLE)
}

fn open_or_make<T>(pins: &Pins, name: &str, entries: u32, flags: u32) -> Result<MapData, Failure> {
    let path = pins.path(name);
    if path.exists() {
        return open_pinned(pins, name);
    }
    let map = make_array::<T>(name, entries, flags)?;
    map.pin(&path)
        .with_context(|| format!("cannot pin {}", pins.shown(name)))?;
    Ok(map)
}

fn header_maps([first, second]: [MapData; 2]) -> anyhow::Result<[Array<MapData, HeaderWords>; 2]> {
    Ok([
        Array::try_from(Map::Array(first)).context("COUNTERS_0")?,
        Array::try_from(Map::Array(second)).context("COUNTERS_1")?,
    ])
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

/// Takes away those that were there and are not to be.
fn forget_own(own: &mut OwnPrefixes, were: &[IpNet], are: &[IpNet]) -> Result<(), Failure> {
    let kept: HashSet<_> = are.iter().map(IpNet::trunc).collect();
    let gone: HashSet<_> = were.iter().map(IpNet::trunc).collect();
    for prefix in gone.difference(&kept) {
        match own.remove(&own_key(prefix)) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => {
                let what = format!("cannot take the own prefix {prefix} from the kernel");
                return Err(super::refusal(error, &what));
            }
        }
    }
    Ok(())
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
