//! Addresses that stand for names.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rand::{Rng, RngExt};

use super::FakeName;
use super::lru::Lru;

/// 198.18.0.0/15, kept for benchmarks (RFC 2544): no app needs it.
const IPV4_NETWORK: u32 = 0xC612_0000;

/// How many addresses that network has.
const IPV4_ADDRESSES: u32 = 1 << 17;

/// fdfe:dcba:9877::/64, a network that is anybody's own (RFC 4193).
const IPV6_NETWORK: u128 = 0xFDFE_DCBA_9877 << 80;

/// The network's own address and those which interfaces like to take are not given out.
const FIRST: u32 = 16;

/// The network's last address is its broadcast address.
const END: u32 = IPV4_ADDRESSES - 1;

/// Names at most: with half of the addresses free, an address rests long between two names.
const MAX_NAMES: usize = 1 << 16;

/// What a name costs beside its place in the LRU: the counts of its text, and its place by index.
const NAME_BYTES: usize = 64;

/// The names that have an address, an IPv4 and an IPv6 one of the same number each.
///
/// A name keeps its number while it is remembered. Numbers are given out round the range, from anywhere
/// in it: an app that still holds the address of a forgotten name, or of an earlier run's, should not
/// reach another name by it.
#[derive(Debug)]
pub(super) struct Names {
    numbers: Lru<Arc<str>, u32>,
    /// INVARIANT: the inverse of `numbers`.
    names: HashMap<u32, Arc<str>>,
    next: u32,
}

impl Names {
    pub(super) fn new(limit: usize, generator: &mut impl Rng) -> Self {
        Self { numbers: Lru::new(limit), names: HashMap::new(), next: generator.random_range(FIRST..END) }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.numbers.set_limit(limit);
        self.shrink();
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.numbers.bytes()
    }

    /// The addresses of a name, which is lower-case.
    pub(super) fn addresses(&mut self, name: &str) -> (Ipv4Addr, Ipv6Addr) {
        let name: Arc<str> = name.into();
        if let Some(&number) = self.numbers.get(&name) {
            return addresses(number);
        }
        if self.numbers.len() >= MAX_NAMES {
            self.forget_oldest();
        }
        let number = self.take_number();
        self.names.insert(number, Arc::clone(&name));
        let bytes = name.len() + NAME_BYTES;
        self.numbers.insert(name, number, bytes);
        self.shrink();
        addresses(number)
    }

    /// What an address stands for; a name counts as used.
    pub(super) fn name(&mut self, address: IpAddr) -> FakeName {
        let number = match number(address) {
            Number::NotFake => return FakeName::NotFake,
            Number::Unused => return FakeName::Forgotten,
            Number::At(number) => number,
        };
        let Some(name) = self.names.get(&number) else { return FakeName::Forgotten };
        self.numbers.get(name);
        name.parse().map_or(FakeName::Forgotten, FakeName::Name)
    }

    /// Ends, since at most [`MAX_NAMES`] of the range are taken.
    fn take_number(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = if number + 1 == END { FIRST } else { number + 1 };
            if !self.names.contains_key(&number) {
                return number;
            }
        }
    }

    fn shrink(&mut self) {
        while let Some((_, number)) = self.numbers.pop_excess() {
            self.names.remove(&number);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, number)) = self.numbers.pop_oldest() {
            self.names.remove(&number);
        }
    }
}

/// Whether an address is of our networks.
pub(super) fn is_in_range(address: IpAddr) -> bool {
    !matches!(number(address), Number::NotFake)
}

enum Number {
    NotFake,
    Unused,
    At(u32),
}

fn addresses(number: u32) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::from(IPV4_NETWORK | number), Ipv6Addr::from(IPV6_NETWORK | u128::from(number)))
}

fn number(address: IpAddr) -> Number {
    match address.to_canonical() {
        IpAddr::V4(ip) if ip.to_bits() & !(IPV4_ADDRESSES - 1) == IPV4_NETWORK => {
            Number::At(ip.to_bits() & (IPV4_ADDRESSES - 1))
        }
        IpAddr::V6(ip) if ip.to_bits() >> 64 == IPV6_NETWORK >> 64 => {
            u32::try_from(ip.to_bits() ^ IPV6_NETWORK).map_or(Number::Unused, Number::At)
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Number::NotFake,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn names(limit: usize) -> Names {
        Names::new(limit, &mut StdRng::seed_from_u64(7))
    }

    fn named(name: &str) -> FakeName {
        FakeName::Name(name.parse().expect("a name"))
    }

    #[test]
    fn a_name_keeps_its_addresses_and_is_found_by_both() {
        let mut names = names(usize::MAX);
        let (v4, v6) = names.addresses("example.com");
        let (other, _) = names.addresses("example.org");
        assert_ne!(v4, other);
        assert_eq!(names.addresses("example.com"), (v4, v6));
        for address in [v4.into(), v6.into(), v4.to_ipv6_mapped().into()] {
            assert_eq!(names.name(address), named("example.com"), "{address}");
        }
        assert_eq!(v4.octets()[..1], [198]);
        assert_eq!(v6.segments()[..4], [0xfdfe, 0xdcba, 0x9877, 0]);
    }

    #[test]
    fn only_addresses_of_the_two_networks_are_fake() {
        let mut names = names(usize::MAX);
        for text in
            ["198.17.255.255", "198.20.0.0", "fdfe:dcba:9877:1::1", "fdfe:dcba:9876::1", "::1", "1.1.1.1"]
        {
            assert_eq!(names.name(text.parse().expect("an address")), FakeName::NotFake, "{text}");
        }
        for text in
            ["198.18.0.0", "198.19.255.255", "fdfe:dcba:9877::", "fdfe:dcba:9877::ffff:ffff:ffff:ffff"]
        {
            assert_eq!(names.name(text.parse().expect("an address")), FakeName::Forgotten, "{text}");
        }
    }

    #[test]
    fn every_address_of_the_range_is_given_out_once_before_any_is_again() {
        let mut names = names(usize::MAX);
        let mut seen = HashSet::new();
        for number in 0..END - FIRST {
            let (v4, _) = names.addresses(&format!("{number}.example"));
            assert!(seen.insert(v4), "{v4} again");
            let number = v4.to_bits() - IPV4_NETWORK;
            assert!((FIRST..END).contains(&number), "{v4}");
        }
        assert_eq!(names.len(), MAX_NAMES);
        let (again, _) = names.addresses("one more");
        assert!(seen.contains(&again));
        assert_eq!(names.names.len(), names.len());
    }

    #[test]
    fn a_name_in_use_is_remembered_and_its_address_passed_over() {
        let mut names = names(40 * 300);
        let (v4, _) = names.addresses("busy.example");
        for number in 0..2 * END {
            let (other, _) = names.addresses(&format!("{number}.example"));
            assert_ne!(other, v4);
            assert_eq!(names.name(v4.into()), named("busy.example"));
        }
        assert!(names.bytes() <= 40 * 300 && names.len() > 30 && names.names.len() == names.len());
    }

    #[test]
    fn a_forgotten_name_gets_another_address() {
        let mut names = names(20 * 300);
        let (v4, _) = names.addresses("example.com");
        for number in 0..100 {
            names.addresses(&format!("{number}.example"));
        }
        assert_eq!(names.name(v4.into()), FakeName::Forgotten);
        assert_ne!(names.addresses("example.com").0, v4);
    }

    #[test]
    fn runs_begin_at_different_addresses() {
        let first = |seed| Names::new(1 << 20, &mut StdRng::seed_from_u64(seed)).addresses("a").0;
        let seen: HashSet<_> = (0..100).map(first).collect();
        assert!(seen.len() > 95, "{}", seen.len());
    }
}
