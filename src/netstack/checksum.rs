//! The Internet checksum (RFC 1071) of segments and datagrams. Each byte of a transfer is added up here.

use smoltcp::wire::IpProtocol;
use smoltcp::wire::checksum::combine;

/// The checksum of `payload`, all that the IP packet carries: what its field is to hold, when that holds 0, and 0
/// when it holds the right one.
pub(super) fn transport(packet: &[u8], protocol: IpProtocol, payload: &[u8]) -> u16 {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let length = payload.len() as u16; // within a packet
    !combine(&[sum(addresses), u8::from(protocol).into(), length, sum(payload)])
}

/// The sum of 16-bit words whose complement is the checksum.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    // Carries count again at the low end, so wider words give the same, in any byte order (RFC 1071, 2). Eight a
    // round in four sums that do not wait for each other, which no compiler that saves space does by itself.
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let add = |sum: u64, bytes: &[u8; 8]| {
        let (sum, carry) = sum.overflowing_add(word(bytes));
        sum + u64::from(carry) // a sum that has just overflowed is not all ones
    };
    let (words, rest) = bytes.as_chunks();
    let (rounds, words) = words.as_chunks();
    let (mut a, mut b, mut c, mut d) = (0, 0, 0, 0);
    for [first, second, third, fourth, fifth, sixth, seventh, eighth] in rounds {
        a = add(add(a, first), second);
        b = add(add(b, third), fourth);
        c = add(add(c, fifth), sixth);
        d = add(add(d, seventh), eighth);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]).map(word);
    let mut sum: u128 = words.chain([a, b, c, d]).map(u128::from).sum();
    while sum > u16::MAX.into() {
        sum = (sum >> 16) + (sum & u128::from(u16::MAX));
    }
    (sum as u16).to_be() // just bounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_sum_up_as_words_do() {
        let bytes: Vec<u8> = (0..70_000_u64).map(|i| ((i * i) >> 7) as u8).collect();
        for bytes in [&bytes[..], &[0xff; 65_535]] {
            for length in (0..200).chain([1499, 1500, 65_535]) {
                let whole: u64 = bytes[..length]
                    .chunks(2)
                    .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
                    .sum();
                let expected = if whole == 0 { 0 } else { (whole - 1) % 0xffff + 1 };
                assert_eq!(u64::from(sum(&bytes[..length])), expected, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_packet_that_holds_its_checksum_gives_zero() {
        // An IPv4 header of 20 bytes, of which only version and addresses count, then a datagram.
        let mut packet = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 53, 0, 8,
            0, 0,
        ];
        let checksum = transport(&packet, IpProtocol::Udp, &packet[20..]);
        // 0xc000 + 0x0201 + 0xc633 + 0x6402 + 17 + 8 + 0x3039 + 53 + 8, folded, complemented
        assert_eq!(checksum, 0xe338);
        packet[26..28].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(transport(&packet, IpProtocol::Udp, &packet[20..]), 0);
    }
}
