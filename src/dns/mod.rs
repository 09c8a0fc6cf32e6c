//! The apps' DNS, answered through the tunnel or by ourselves.
//!
//! ```text
//! query ─► resolver ─► desk ─► at once: cache, fake address, refusal
//!           (front)      └───► question ─► upstream ─► a stream of the tunnel: TCP, TLS or HTTPS
//! ```
//! The desk is pure: it decides what becomes of a query, and is told the time. It reads and writes messages with
//! `message` (what clients ask and are told) and `answer` (what the resolver says), the two files that know the
//! DNS library, and keeps what it knows in `cache`, `names` (fake addresses) and `flights` (questions under way),
//! each bounded in bytes.

mod answer;
mod cache;
mod counters;
mod desk;
mod flights;
mod framing;
mod front;
mod lru;
mod message;
mod names;
mod resolver;
mod special;
mod suffixes;
mod upstream;

use crate::proto::target::Name;

pub use counters::{DeskCounters, ResolveTimes};
pub use desk::{Desk, DeskOptions};
pub use flights::Ticket;
pub use message::Via;
pub use resolver::{DnsStats, Resolver, ResolverOptions, ServerOptions, Settings, Transport};
pub use upstream::UpstreamStats;

/// Who answers a query for addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsMode {
    /// The resolver.
    #[default]
    Forward,
    /// We do, with an address of our own that stands for the name.
    FakeIp,
}

/// Which addresses apps are told of.
///
/// Under [`DnsMode::FakeIp`] the `Prefer` ones say nothing about names that have a fake address: both
/// families of it stand for the same name, and it is the server that picks an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsStrategy {
    /// Those they ask for.
    #[default]
    AsAsked,
    /// IPv6 ones only of names without IPv4 ones.
    PreferIpv4,
    /// IPv4 ones only of names without IPv6 ones.
    PreferIpv6,
    /// No IPv6 ones.
    Ipv4Only,
    /// No IPv4 ones.
    Ipv6Only,
}

/// What an address is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeName {
    /// An address like any other.
    NotFake,
    /// It stood for a name that is not known any more: nobody can be reached by it.
    Forgotten,
    /// It stands for this name.
    Name(Name),
}
