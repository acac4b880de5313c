//! What no forward may reach, whoever asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Denial;

/// Addresses at which clouds give credentials to whoever asks from inside.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// What no forward may reach, whatever the key says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reserved {
    gateway: Vec<SocketAddr>,
}

impl Reserved {
    /// The metadata of clouds, and the gateway at these addresses and ports.
    #[must_use]
    pub fn new(gateway: Vec<SocketAddr>) -> Self {
        Self { gateway }
    }

    /// Whether a forward may reach this address, which is what its name has led to.
    pub fn check(&self, to: SocketAddr) -> Result<(), Denial> {
        let address = plain(to.ip());
        if is_metadata(address) {
            return Err(Denial::Reserved(address, "it is the metadata service of a cloud"));
        }
        let is_gateway = |own: &SocketAddr| plain(own.ip()) == address && own.port() == to.port();
        if self.gateway.iter().any(is_gateway) {
            return Err(Denial::Reserved(address, "it is the gateway itself"));
        }
        Ok(())
    }
}

/// Whether this is the metadata service of a cloud. For portals, which ask before they connect.
#[must_use]
pub fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&plain(address))
}

/// The IPv4 address in an IPv6 one: mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1), or for translators
/// (RFC 6052, 2.1).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let inner = || {
        let [.., high, low] = six.segments();
        IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
    };
    match six.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => inner(),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => inner(),
        _ => address,
    }
}
