//! Which addresses belong to which datacenter, of services and of clients. Nothing here is reachable; DNS only names them.

use std::net::{IpAddr, Ipv4Addr};

/// The networks that services of a datacenter have addresses in; `failoid` is where nobody serves.
pub const NETWORKS: [(&str, &str); 3] =
    [("eqiad", "10.2.2.0/24"), ("codfw", "10.2.1.0/24"), ("failoid", "10.255.255.1/32")];
/// The networks that clients of a datacenter are in.
pub const CLIENTS: [(&str, &str); 2] = [("eqiad", "10.64.0.0/12"), ("codfw", "10.192.0.0/12")];
/// What DNS answers for a service that is pooled nowhere.
pub const FAILOID: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 1);

/// The address of a service, by its place in the list of records.
pub fn service(datacenter: &str, index: usize) -> Ipv4Addr {
    let last = u8::try_from(index + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 2, if datacenter == "eqiad" { 2 } else { 1 }, last)
}

/// The datacenter that an address belongs to.
pub fn datacenter(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [10, 2, 2, _] => Some("eqiad"),
            [10, 2, 1, _] => Some("codfw"),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// The network of a datacenter's clients: address and length of its prefix.
pub fn clients(datacenter: &str) -> (Ipv4Addr, u8) {
    (Ipv4Addr::new(10, if datacenter == "eqiad" { 64 } else { 192 }, 0, 0), 12)
}

/// The name of a record in DNS.
pub fn dns_name(record: &str) -> String {
    format!("{record}.discovery.wmnet")
}
