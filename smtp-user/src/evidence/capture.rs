//! The packets of one host from a capture or an interface, without their content.
//!
//! Contract: the file that is written has IP and TCP headers alone, from the first octet of the IP header on, and no
//! octet behind the TCP header; link headers, and with them the addresses of neighbours' cards, are left out. Each
//! packet is parsed again as it is written, and one that would then count otherwise is left out and counted: so
//! whoever counts the file counts what we do. It ends at [`MOST`] packets, and says so.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use smtp_common::flow::Totals;
use smtp_common::packet::{Address, MailPorts, Packet, Segment, parse_ether_type};

use super::live::Live;
use crate::failure::{Failure, Kind};
use crate::link;
use crate::meter::Meter as _;
use crate::meter::pcap::file::{CaptureFile, Fault, Frame};
use crate::meter::pcap::link::LinkType;
use crate::meter::pcap::{PcapMeter, fail};

/// Most packets: some 40 MiB.
pub(super) const MOST: u64 = 500_000;
/// The windows of a replay by default, and so of whoever counts the file as we say.
const WINDOW: Duration = Duration::from_secs(10);

/// Classic pcap with times in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: u32 = 2 | 4 << 16;
/// Longer than any header that is written.
const SNAPLEN: u32 = 65_535;
/// LINKTYPE_RAW: packets begin with the IP header.
const RAW: u32 = 101;

/// What was taken from a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Packets that were read.
    pub(super) read: u64,
    /// Packets that were written.
    pub(super) written: u64,
    /// Packets of a live capture that the kernel could not queue.
    pub(super) lost: u64,
    /// Packets of the host that cannot be cut so that they count as before.
    pub(super) uncut: u64,
    /// The times of the first and the last one, since 1970.
    pub(super) times: Option<(Duration, Duration)>,
    /// Why not all was read, if it was not.
    pub(super) ended: Option<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    /// What was taken.
    pub(super) cut: Cut,
    /// The host's counts in the file that was written.
    pub(super) counted: Counted,
    /// Mail ports.
    pub(super) ports: Vec<u16>,
}

/// What the file that was written holds of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counted {
    pub(super) connections: u64,
    pub(super) syn_retx: u64,
    pub(super) c2s_packets: u64,
    pub(super) c2s_bytes: u64,
    pub(super) s2c_packets: u64,
    pub(super) s2c_bytes: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
}

impl From<Totals> for Counted {
    fn from(totals: Totals) -> Self {
        let Totals {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        } = totals;
        Self {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        }
    }
}

/// Writes the host's packets of a capture.
pub(super) fn cut(file: &Path, host: Address, ports: MailPorts, to: File) -> Result<Cut, Failure> {
    let input = File::open(file).map_err(|error| fail(file, &Fault::Io(error)))?;
    let mut capture = CaptureFile::new(input).map_err(|fault| fail(file, &fault))?;
    let mut writer = Writer::new(host, ports, to)?;
    loop {
        match capture.next_frame() {
            Ok(Some(frame)) => {
                if !writer.take(&frame)? {
                    break;
                }
            }
            Ok(None) => break,
            // What was read before is as good as it was.
            Err(fault) => {
                writer.cut.ended = Some(fault.to_string());
                break;
            }
        }
    }
    writer.finish()
}

/// Writes the host's packets of an interface, until their time is over.
pub(super) fn tap(
    live: &Live,
    netns: Option<&str>,
    host: IpAddr,
    ports: (&[u16], MailPorts),
    to: File,
) -> Result<Cut, Failure> {
    let mut tap = link::within(netns, || live.begin(host, ports.0))?;
    let mut writer = Writer::new(host.into(), ports.1, to)?;
    loop {
        match tap.next() {
            Ok(Some((data, at))) => {
                let frame = Frame {
                    at: Some(at),
                    link: LinkType::Raw,
                    data,
                };
                if !writer.take(&frame)? {
                    break;
                }
            }
            Ok(None) => break,
            Err(failure) => {
                writer.cut.ended = Some(failure.to_string());
                break;
            }
        }
    }
    writer.cut.lost = tap.lost;
    writer.finish()
}

/// The file that is written.
struct Writer {
    host: Address,
    ports: MailPorts,
    to: BufWriter<File>,
    cut: Cut,
}

impl Writer {
    fn new(host: Address, ports: MailPorts, to: File) -> Result<Self, Failure> {
        let mut to = BufWriter::new(to);
        for word in [MAGIC, VERSION, 0, 0, SNAPLEN, RAW] {
            to.write_all(&word.to_le_bytes())
                .map_err(|error| unwritten(&error))?;
        }
        Ok(Self {
            host,
            ports,
            to,
            cut: Cut::default(),
        })
    }

    /// Looks at a packet, and writes its headers if it is the host's. Whether there is room for more.
    fn take(&mut self, frame: &Frame<'_>) -> Result<bool, Failure> {
        let Self {
            host,
            ports,
            to,
            cut,
        } = self;
        cut.read += 1;
        let Ok((segment, payload)) = frame.link.parse(frame.data, *ports) else {
            return Ok(true);
        };
        if segment.source != *host && segment.destination != *host {
            return Ok(true);
        }
        if cut.written == MOST {
            cut.ended = Some(format!("the host has more than {MOST} packets in it"));
            return Ok(false);
        }
        let Some(headers) = headers(frame, &segment, payload.remaining(), *ports) else {
            cut.uncut += 1;
            return Ok(true);
        };
        let (first, last) = cut.times.unwrap_or_else(|| {
            let first = frame.at.unwrap_or_default();
            (first, first)
        });
        // One without a time is of the moment before, as it is for the meter.
        let at = frame.at.unwrap_or(last);
        cut.times = Some((first.min(at), last.max(at)));
        cut.written += 1;
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        for word in [
            seconds,
            at.subsec_nanos(),
            length,
            segment.bytes.max(length),
        ] {
            to.write_all(&word.to_le_bytes())
                .map_err(|error| unwritten(&error))?;
        }
        to.write_all(headers).map_err(|error| unwritten(&error))?;
        Ok(true)
    }

    fn finish(self) -> Result<Cut, Failure> {
        let file = self
            .to
            .into_inner()
            .map_err(|error| unwritten(error.error()))?;
        file.sync_all().map_err(|error| unwritten(&error))?;
        Ok(self.cut)
    }
}

fn unwritten(error: &io::Error) -> Failure {
    Failure::new(
        Kind::Failed,
        format!(
            "cannot write the packets of the host: {error}; make room, or name another place (--output)"
        ),
    )
}

/// IP and TCP header of a packet, if they count as the whole packet does.
fn headers<'a>(
    frame: &Frame<'a>,
    segment: &Segment,
    behind: usize,
    ports: MailPorts,
) -> Option<&'a [u8]> {
    let end = frame.data.len().checked_sub(behind)?;
    let length = usize::try_from(segment.bytes.checked_sub(segment.payload)?).ok()?;
    let headers = frame.data.get(end.checked_sub(length)?..end)?;
    let ether_type = match headers.first()? >> 4 {
        4 => 0x0800,
        6 => 0x86dd,
        _ => return None,
    };
    let (again, payload) = parse_ether_type(Packet::from_slice(headers), ether_type, ports).ok()?;
    (again == *segment && payload.remaining() == 0).then_some(headers)
}

/// Counts the host in the file that was written.
pub(super) fn count(file: &Path, host: Address, ports: MailPorts) -> Result<Counted, Failure> {
    let mut meter = PcapMeter::open(file, WINDOW, ports)?;
    let mut totals = Totals::default();
    while let Some(window) = meter.window()? {
        let of_host = window
            .sources
            .iter()
            .filter(|source| source.address == host);
        for source in of_host {
            totals.merge(&source.totals);
        }
        meter.release()?;
    }
    Ok(totals.into())
}
