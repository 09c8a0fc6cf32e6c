//! How packets leave this machine.

use std::fmt;
use std::net::IpAddr;

/// The way that packets to some destination leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The interface's name.
    pub(crate) interface: String,
    /// The router, unless the destination is on the interface's own network.
    pub(crate) gateway: Option<IpAddr>,
    /// The address that they come from.
    pub(crate) source: Option<IpAddr>,
}

impl fmt::Display for Way {
    /// `eth0 via 10.0.0.1 from 10.0.0.2`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.interface)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        Ok(())
    }
}
