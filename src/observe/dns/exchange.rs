//! One question to one authoritative server: over UDP, and over TCP where the answer does not fit.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::DnsRequestSender;
use hickory_net::{DnsHandle, NetError};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Edns, Message, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use poolguard_policy::evidence::Why;

use crate::observe::Bad;

/// Small enough to pass every path unfragmented (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// Asks `server` about `name` on behalf of a client in `network`, within `timeout`.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    network: Option<IpNet>,
    timeout: Duration,
) -> Result<Message, Bad> {
    let work = async {
        match udp(server, request(name, kind, network), timeout).await {
            Ok(response) if !response.metadata.truncation => Ok(response.into_message()),
            // What does not fit, or cannot be read, is asked for again where there is room.
            Ok(_) | Err(NetError::Proto(_)) => {
                tcp(server, request(name, kind, network), timeout).await.map(DnsResponse::into_message)
            }
            Err(error) => Err(error),
        }
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(NetError::Timeout)) | Err(_) => {
            Err(Bad::new(Why::TimedOut, &format!("no answer from {server} within {} ms", timeout.as_millis())))
        }
        Ok(Err(error @ NetError::Proto(_))) => {
            Err(Bad::new(Why::Malformed, &format!("{server} answered what cannot be read ({error})")))
        }
        Ok(Err(error)) => Err(Bad::new(Why::Unreachable, &format!("{server} cannot be reached ({error})"))),
    }
}

fn request(name: &Name, kind: RecordType, network: Option<IpNet>) -> DnsRequest {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    if let Some(network) = network {
        let subnet = ClientSubnet::new(network.network(), network.prefix_len(), 0);
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
    }
    message.set_edns(edns);
    DnsRequest::new(message, DnsRequestOptions::default())
}

async fn udp(server: SocketAddr, request: DnsRequest, timeout: Duration) -> Result<DnsResponse, NetError> {
    let mut stream = UdpClientStream::builder(server, TokioRuntimeProvider::new()).with_timeout(Some(timeout)).build();
    // Its stream ends without an answer when the time is over.
    first(stream.send_message(request), NetError::Timeout).await
}

async fn tcp(server: SocketAddr, request: DnsRequest, timeout: Duration) -> Result<DnsResponse, NetError> {
    // The provider owns the task that carries the exchange: it must live until the answer is here.
    let provider = TokioRuntimeProvider::new();
    let exchange = TcpClientStream::exchange(server, None, timeout, None, provider.clone()).await?;
    first(exchange.send(request), NetError::NoConnections).await
}

async fn first(
    mut responses: impl futures::Stream<Item = Result<DnsResponse, NetError>> + Unpin,
    none: NetError,
) -> Result<DnsResponse, NetError> {
    responses.next().await.unwrap_or(Err(none))
}
