//! Asks a DNS server for addresses, on behalf of a client's network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};

/// The addresses of a name for a client in this network.
///
/// # Errors
/// If no server answers, or one with an error.
pub fn lookup(server: SocketAddr, name: &str, client: (Ipv4Addr, u8)) -> Result<Vec<IpAddr>> {
    let mut message = Message::query();
    let mut name = Name::from_str(name).context("not a name")?;
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::A));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(client.0.into(), client.1, 0)));
    message.set_edns(edns);
    let socket = UdpSocket::bind("127.0.0.1:0").context("no socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to(&message.to_vec().context("a question that cannot be written")?, server)?;
    let mut buffer = [0; 4096];
    let (length, _) = socket.recv_from(&mut buffer).context("no answer")?;
    let answer = Message::from_vec(&buffer[..length]).context("an answer that cannot be read")?;
    let code = answer.metadata.response_code;
    ensure!(code == ResponseCode::NoError, "the server answered {code}");
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Ok(addresses.collect())
}
