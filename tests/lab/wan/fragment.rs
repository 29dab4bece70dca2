//! Cutting an IPv4 packet to a smaller MTU (RFC 791 §2.3).

use etherparse::checksum::u64_16bit_word;

/// The pieces of an IPv4 packet, itself perhaps a piece, none larger than `mtu` bytes. Every piece has all
/// options. The packet has a whole header, and `mtu` is at least 68.
pub(super) fn cut(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    const MORE: u16 = 0x2000;
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    let (header, payload) = packet.split_at(header_len);
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let room = (mtu - header_len) / 8 * 8;
    let last = payload.len().div_ceil(room).saturating_sub(1);
    (0_u16..)
        .zip(payload.chunks(room))
        .map(|(place, chunk)| {
            let mut piece = [header, chunk].concat();
            // The offset counts units of 8 bytes in the lower 13 bits.
            let units = u16::try_from(room / 8).expect("an IP packet has at most 65,535 bytes");
            let mut flags = flags.wrapping_add(place.wrapping_mul(units));
            if usize::from(place) < last {
                flags |= MORE;
            }
            let length = u16::try_from(piece.len()).expect("no longer than the whole");
            piece[2..4].copy_from_slice(&length.to_be_bytes());
            piece[6..8].copy_from_slice(&flags.to_be_bytes());
            piece[10..12].fill(0);
            let sum = u64_16bit_word::add_slice(0, &piece[..header_len]);
            let checksum = u64_16bit_word::ones_complement(sum).to_be();
            piece[10..12].copy_from_slice(&checksum.to_be_bytes());
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4HeaderSlice, PacketBuilder};

    use super::cut;

    #[test]
    fn pieces_make_the_whole_again_however_often_cut() {
        let payload: Vec<u8> = (0..=255).cycle().take(4_000).collect();
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 255, 0, 2], 64)
            .udp(1, 2)
            .write(&mut packet, &payload)
            .unwrap();
        let pieces: Vec<_> = cut(&packet, 1500)
            .iter()
            .flat_map(|piece| cut(piece, 577))
            .collect();
        let mut whole: Vec<u8> = Vec::new();
        for (place, piece) in pieces.iter().enumerate() {
            let header = Ipv4HeaderSlice::from_slice(piece).unwrap();
            assert!(piece.len() <= 577);
            assert_eq!(usize::from(header.total_len()), piece.len());
            assert_eq!(
                usize::from(header.fragments_offset().byte_offset()),
                whole.len()
            );
            assert_eq!(header.more_fragments(), place + 1 < pieces.len());
            assert_eq!(
                header.to_header().calc_header_checksum(),
                header.header_checksum()
            );
            whole.extend(&piece[20..]);
        }
        assert_eq!(whole, packet[20..]);
    }
}
