//! Keeping packets in a file that Wireshark reads.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::SystemTime;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

use crate::error::{Error, Result};
use crate::packet::Packet;

/// Writes packets to a pcap file: `LINKTYPE_RAW`, which is packets from the IP header on, with nanoseconds.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pcap<'a>(
    path: impl AsRef<Path>,
    packets: impl IntoIterator<Item = &'a Packet>,
) -> Result<()> {
    let path = path.as_ref();
    let write = || -> io::Result<()> {
        let header = PcapHeader {
            datalink: DataLink::RAW,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let file = BufWriter::new(File::create(path)?);
        let mut writer = PcapWriter::with_header(file, header).map_err(to_io)?;
        for packet in packets {
            let at = packet
                .at
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let length = u32::try_from(packet.raw.len()).unwrap_or(u32::MAX);
            let packet = PcapPacket::new(at, length, &packet.raw);
            writer.write_packet(&packet).map_err(to_io)?;
        }
        writer.into_writer().flush()
    };
    write().map_err(|e| Error::system(format!("write {}", path.display()), e))
}

fn to_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(e) => e,
        e => io::Error::other(e),
    }
}
