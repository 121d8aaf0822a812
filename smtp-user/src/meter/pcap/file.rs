//! Capture files: from pcap and pcapng to packets.
//!
//! Contract: [`CaptureFile::next_frame`] yields every captured packet once, in the order of the
//! file, in both byte orders, and never silently leaves one out: what cannot be read is a [`Fault`]
//! that names the byte where it stands, and after a fault nothing more is yielded. Memory holds one
//! record, of at most [`MAX_RECORD`] octets, whatever the file claims.
//!
//! Records are framed here and decoded by pcap-parser. Its own streaming readers drop the operating
//! system's error, do not say where they stand, and wait for more data without end when a packet
//! is longer than the block it stands in.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

use std::io::{self, BufRead as _, BufReader, Read};
use std::time::Duration;

use pcap_parser::pcapng::{
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock, parse_simplepacketblock_be,
    parse_simplepacketblock_le,
};
use pcap_parser::{PcapHeader, parse_pcap_header};

use super::link::LinkType;

mod fault;
#[cfg(test)]
mod tests;

pub use fault::Fault;

/// The longest record that is read. Packets of a network interface are far below it; a length above
/// it is a damaged one.
pub const MAX_RECORD: usize = 16 << 20;

/// The most interfaces of a section: as many as there can be devices on a Linux machine that anyone
/// has seen, and few enough to keep.
const MAX_INTERFACES: usize = 1 << 16;

/// What libpcap captures at most on any network interface, and the least that we take as the limit
/// of a packet: the limit that a file's header names is often wrong, and in both directions.
const LEAST_PACKET_LIMIT: u32 = 262_144;

/// As much as the kernel reads ahead, and more.
const READ_AT_ONCE: usize = 256 << 10;

/// One captured packet.
#[derive(Debug)]
pub struct Frame<'a> {
    /// When it was captured, since 1970; `None` where the file does not say.
    pub at: Option<Duration>,
    /// How it begins.
    pub link: LinkType,
    /// As much of it as was captured.
    pub data: &'a [u8],
}

/// A capture file that is being read.
pub struct CaptureFile<R> {
    /// What said what the file is, and the rest of it.
    source: Source<io::Chain<io::Cursor<Vec<u8>>, R>>,
    format: Format,
    /// A fault was given out.
    broken: bool,
}

/// What of a file's format has to be known for its packets.
enum Format {
    Pcap(Pcap),
    PcapNg(Section),
}

impl<R: Read> CaptureFile<R> {
    /// Reads as much of a file as says what it is.
    pub fn new(mut input: R) -> Result<Self, Fault> {
        // Not from a buffer: a pipe may yield less than a magic number at once.
        let mut start = Vec::new();
        let magic = input.by_ref().take(6).read_to_end(&mut start);
        magic.map_err(Fault::Io)?;
        let mut source = Source::new(io::Cursor::new(start.clone()).chain(input));
        let format = match start[..] {
            [] => return Err(Fault::Empty),
            // A section header has the same type in both byte orders.
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Format::PcapNg(Section::default()),
            ref start => match Pcap::recognise(start) {
                None => return Err(Fault::not_a_capture(start)),
                Some(()) => Format::Pcap(Pcap::read(&mut source)?),
            },
        };
        let mut file = Self {
            source,
            format,
            broken: false,
        };
        // A file that begins like pcapng by chance is none: told before anything is counted.
        if let Format::PcapNg(section) = &mut file.format {
            match section.read_block(&mut file.source) {
                Err(Fault::Corrupt { .. }) => {
                    return Err(Fault::not_a_capture(&block::SECTION_HEADER.to_be_bytes()));
                }
                block => block.map(drop)?,
            }
        }
        Ok(file)
    }

    /// The next packet; `None` at the end of the file.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Fault> {
        if self.broken {
            return Ok(None);
        }
        let frame = match &mut self.format {
            Format::Pcap(pcap) => pcap.next_frame(&mut self.source),
            Format::PcapNg(section) => section.next_frame(&mut self.source),
        };
        self.broken = frame.is_err();
        frame
    }
}

/// The bytes of the file, and where in it they stand.
struct Source<R> {
    input: BufReader<R>,
    /// How many bytes were taken.
    offset: u64,
    /// The record that was read last, and what an earlier, longer one left behind it.
    record: Vec<u8>,
}

impl<R: Read> Source<R> {
    fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(READ_AT_ONCE, input),
            offset: 0,
            record: Vec::new(),
        }
    }

    /// Whether the file has ended.
    fn at_end(&mut self) -> Result<bool, Fault> {
        loop {
            match self.input.fill_buf() {
                Ok(rest) => return Ok(rest.is_empty()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    /// Reads `more` bytes behind the `have` first ones of the record that starts at `start`.
    fn extend(&mut self, start: u64, have: usize, more: usize) -> Result<&[u8], Fault> {
        let end = have + more;
        if self.record.len() < end {
            self.record.resize(end, 0);
        }
        match self.input.read_exact(&mut self.record[have..end]) {
            Ok(()) => {
                self.offset += more as u64;
                Ok(&self.record[..end])
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::Cut { start }),
            Err(error) => Err(Fault::Io(error)),
        }
    }

    /// Reads past `count` bytes of the record that starts at `start`.
    fn skip(&mut self, start: u64, count: u64) -> Result<(), Fault> {
        let skipped = io::copy(&mut self.input.by_ref().take(count), &mut io::sink());
        let skipped = skipped.map_err(Fault::Io)?;
        self.offset += skipped;
        if skipped < count {
            return Err(Fault::Cut { start });
        }
        Ok(())
    }
}

/// A file of the older format: one header, one link type, records.
struct Pcap {
    big_endian: bool,
    /// Fractions of a second are nanoseconds, not microseconds.
    nanoseconds: bool,
    record_header: usize,
    packet_limit: u32,
    link: LinkType,
}

impl Pcap {
    /// Whether a file that begins like this is of this format.
    fn recognise(start: &[u8]) -> Option<()> {
        let magic = start
            .first_chunk()
            .map(|magic| u32::from_le_bytes(*magic))?;
        let known = [
            0xa1b2_c3d4_u32,
            0xa1b2_3c4d,
            0xd4c3_b2a1,
            0x4d3c_b2a1,
            0xa1b2_cd34,
        ];
        known.contains(&magic).then_some(())
    }

    fn read<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        let header = source.extend(0, 0, PcapHeader::new().size())?;
        let (_, header) = parse_pcap_header(header)
            .map_err(|_| Fault::corrupt(0, "its file header is damaged"))?;
        // The upper bits say whether frames end with a check sequence.
        let number = header.network.0.cast_unsigned() & 0x03ff_ffff;
        Ok(Self {
            big_endian: header.is_bigendian(),
            nanoseconds: header.is_nanosecond_precision(),
            // Kuznetzov's variant has 8 more octets in each record header.
            record_header: if header.is_modified_format() { 24 } else { 16 },
            packet_limit: header.snaplen.clamp(LEAST_PACKET_LIMIT, MAX_RECORD as u32),
            link: LinkType::from_number(number).ok_or(Fault::LinkType {
                number,
                interface: None,
            })?,
        })
    }

    fn next_frame<'a, R: Read>(
        &self,
        source: &'a mut Source<R>,
    ) -> Result<Option<Frame<'a>>, Fault> {
        if source.at_end()? {
            return Ok(None);
        }
        let start = source.offset;
        let header = source.extend(start, 0, self.record_header)?;
        let word = |i: usize| {
            let octets = [header[i], header[i + 1], header[i + 2], header[i + 3]];
            if self.big_endian {
                u32::from_be_bytes(octets)
            } else {
                u32::from_le_bytes(octets)
            }
        };
        let (seconds, fraction, captured) = (word(0), word(4), word(8));
        if captured > self.packet_limit {
            let limit = self.packet_limit;
            let why = format!("a packet of {captured} bytes, where {limit} are the most");
            return Err(Fault::corrupt(start, why));
        }
        let fraction = if self.nanoseconds {
            Duration::from_nanos(fraction.into())
        } else {
            Duration::from_micros(fraction.into())
        };
        Ok(Some(Frame {
            at: Some(Duration::from_secs(seconds.into()) + fraction),
            link: self.link,
            data: &source.extend(start, self.record_header, captured as usize)?
                [self.record_header..],
        }))
    }
}

/// Block types of pcapng.
mod block {
    pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub const INTERFACE_DESCRIPTION: u32 = 1;
    /// Obsolete, but it holds packets.
    pub const PACKET: u32 = 2;
    pub const SIMPLE_PACKET: u32 = 3;
    pub const ENHANCED_PACKET: u32 = 6;
}

/// A section of a pcapng file: a byte order and interfaces.
#[derive(Default)]
struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// What a packet's interface says about it.
struct Interface {
    link_number: u32,
    snap_length: u32,
    /// Time units per second.
    units: u128,
    /// Seconds to add to every time.
    offset: i64,
}

/// Type, length, and the length again at the end.
const BLOCK_OVERHEAD: u32 = 12;

impl Section {
    fn word(&self, octets: &[u8], at: usize) -> u32 {
        let octets = [octets[at], octets[at + 1], octets[at + 2], octets[at + 3]];
        if self.big_endian {
            u32::from_be_bytes(octets)
        } else {
            u32::from_le_bytes(octets)
        }
    }

    fn next_frame<'a, R: Read>(
        &mut self,
        source: &'a mut Source<R>,
    ) -> Result<Option<Frame<'a>>, Fault> {
        loop {
            if source.at_end()? {
                return Ok(None);
            }
            let start = source.offset;
            if let Some((kind, length)) = self.read_block(source)? {
                return self.frame(start, kind, &source.record[..length]).map(Some);
            }
        }
    }

    /// Reads one block. Gives type and length of one that holds a packet; of the others it keeps
    /// what is needed for packets to come.
    fn read_block<R: Read>(
        &mut self,
        source: &mut Source<R>,
    ) -> Result<Option<(u32, usize)>, Fault> {
        let start = source.offset;
        // The shortest block is as long as the part of a section header that says its byte order.
        let head = source.extend(start, 0, BLOCK_OVERHEAD as usize)?;
        let mut kind = self.word(head, 0);
        if kind == block::SECTION_HEADER {
            self.big_endian = match head[8..12] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(Fault::corrupt(start, "a section header without byte order")),
            };
            kind = block::SECTION_HEADER;
        }
        let length = self.word(head, 4);
        if length < BLOCK_OVERHEAD || !length.is_multiple_of(4) {
            let why = format!("a block of {length} bytes, which no block can have");
            return Err(Fault::corrupt(start, why));
        }
        let wanted = matches!(
            kind,
            block::SECTION_HEADER
                | block::INTERFACE_DESCRIPTION
                | block::PACKET
                | block::SIMPLE_PACKET
                | block::ENHANCED_PACKET
        );
        let mut rest = (length - BLOCK_OVERHEAD) as usize;
        if !wanted {
            // Names, statistics, keys, comments; the draft asks readers to pass over what they do
            // not know. All but the end of it is not even kept.
            let passed = rest.saturating_sub(4);
            source.skip(start, passed as u64)?;
            rest -= passed;
        } else if length as usize > MAX_RECORD {
            let why = format!("a block of {length} bytes, where {MAX_RECORD} are the most");
            return Err(Fault::corrupt(start, why));
        }
        let octets = source.extend(start, BLOCK_OVERHEAD as usize, rest)?;
        let trailer = self.word(octets, octets.len() - 4);
        if trailer != length {
            let why = format!("a block of {length} bytes that says {trailer} at its end");
            return Err(Fault::corrupt(start, why));
        }
        match kind {
            _ if !wanted => Ok(None),
            block::SECTION_HEADER => {
                if parse_sectionheaderblock(octets).is_err() {
                    return Err(Fault::corrupt(start, "a damaged section header"));
                }
                self.interfaces.clear();
                Ok(None)
            }
            block::INTERFACE_DESCRIPTION => {
                let interface = Interface::parse(octets, self.big_endian)
                    .ok_or_else(|| Fault::corrupt(start, "a damaged interface description"))?;
                if self.interfaces.len() >= MAX_INTERFACES {
                    let why = format!("more than {MAX_INTERFACES} interfaces");
                    return Err(Fault::corrupt(start, why));
                }
                self.interfaces.push(interface);
                Ok(None)
            }
            _ => Ok(Some((kind, octets.len()))),
        }
    }

    /// The packet in a block.
    fn frame<'a>(&self, start: u64, kind: u32, octets: &'a [u8]) -> Result<Frame<'a>, Fault> {
        let damaged = || Fault::corrupt(start, "a packet that does not fit into its block");
        match kind {
            block::SIMPLE_PACKET => {
                let parse = if self.big_endian {
                    parse_simplepacketblock_be
                } else {
                    parse_simplepacketblock_le
                };
                let (_, packet) = parse(octets).map_err(|_| damaged())?;
                let (interface, link) = self.interface(start, 0)?;
                let mut captured = packet.origlen as usize;
                if interface.snap_length != 0 {
                    captured = captured.min(interface.snap_length as usize);
                }
                Ok(Frame {
                    at: None,
                    link,
                    data: packet.data.get(..captured).ok_or_else(damaged)?,
                })
            }
            block::ENHANCED_PACKET => {
                let parse = if self.big_endian {
                    parse_enhancedpacketblock_be
                } else {
                    parse_enhancedpacketblock_le
                };
                let (_, packet) = parse(octets).map_err(|_| damaged())?;
                let (interface, link) = self.interface(start, packet.if_id)?;
                let data = packet.data.get(..packet.caplen as usize);
                Ok(Frame {
                    at: Some(interface.time(packet.ts_high, packet.ts_low)),
                    link,
                    data: data.ok_or_else(damaged)?,
                })
            }
            _ => {
                // The obsolete packet block: as the enhanced one, but with 16 bits of interface and
                // 16 of drops. pcap-parser does not know it.
                let content = &octets[8..octets.len() - 4];
                if content.len() < 20 {
                    return Err(damaged());
                }
                let number = [content[0], content[1]];
                let number = if self.big_endian {
                    u16::from_be_bytes(number)
                } else {
                    u16::from_le_bytes(number)
                };
                let (interface, link) = self.interface(start, number.into())?;
                let captured = self.word(content, 12) as usize;
                Ok(Frame {
                    at: Some(interface.time(self.word(content, 4), self.word(content, 8))),
                    link,
                    data: content[20..].get(..captured).ok_or_else(damaged)?,
                })
            }
        }
    }

    /// The interface of a packet, and how packets begin there.
    fn interface(&self, start: u64, number: u32) -> Result<(&Interface, LinkType), Fault> {
        let Some(interface) = self.interfaces.get(number as usize) else {
            let why = format!("a packet of interface {number}, which is not described before it");
            return Err(Fault::corrupt(start, why));
        };
        let link = LinkType::from_number(interface.link_number).ok_or(Fault::LinkType {
            number: interface.link_number,
            interface: Some(number),
        })?;
        Ok((interface, link))
    }
}

impl Interface {
    fn parse(octets: &[u8], big_endian: bool) -> Option<Self> {
        let parse = if big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let (_, description) = parse(octets).ok()?;
        let exponent = u32::from(description.if_tsresol & 0x7f);
        let base: u128 = if description.if_tsresol & 0x80 == 0 {
            10
        } else {
            2
        };
        Some(Self {
            link_number: description.linktype.0.cast_unsigned(),
            snap_length: description.snaplen,
            // Above, a 64-bit count of units is less than a second anyhow.
            units: base.checked_pow(exponent).unwrap_or(u128::MAX),
            // pcap-parser reads this option as little-endian always.
            offset: if big_endian {
                description.if_tsoffset.swap_bytes()
            } else {
                description.if_tsoffset
            },
        })
    }

    /// The time of a packet since 1970; 0 for one before.
    fn time(&self, high: u32, low: u32) -> Duration {
        let count = u128::from(high) << 32 | u128::from(low);
        let seconds = (count / self.units) as u64;
        // Below 2^64, because a remainder is not above the count.
        let nanoseconds = count % self.units * 1_000_000_000 / self.units;
        let seconds = seconds.saturating_add_signed(self.offset);
        Duration::new(seconds, nanoseconds as u32)
    }
}
