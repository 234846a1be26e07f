//! Servers that fail in ways that no real one can be brought to: DNS, Prometheus and a slow proxy, at the wire. Each counts
//! what reaches it, so that a test can show that its fault was hit; each answers well where it was told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What was heard, and about what the answer is to be a good one.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    counts: BTreeMap<String, usize>,
    healed: BTreeSet<String>,
}

impl Heard {
    /// Counts a question about `what`, and says whether the answer is to be a good one.
    fn hear(&self, what: &str) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *heard.counts.entry(what.to_owned()).or_default() += 1;
        heard.healed.contains(what)
    }

    /// How often it was asked.
    pub fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.get(what).copied().unwrap_or_default()
    }

    /// From now on the answer is a good one: no traffic here.
    pub fn heal(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).healed.insert(what.to_owned());
    }
}

/// A DNS server. The first label of a name says how the answer fails.
pub struct Dns {
    pub address: SocketAddr,
    pub heard: Heard,
}

/// The TTL of an answer that clients hold for a while.
pub const HELD: u32 = 8;
const HERE: Ipv4Addr = Ipv4Addr::new(10, 2, 2, 99);
/// In a network of eqiad, too.
const HERE_SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x99);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 2, 1, 99);
/// In no configured network.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

impl Dns {
    /// Listens over UDP and TCP. `second` is the server that disagrees with the first.
    pub fn start(second: bool) -> Self {
        let heard = Heard::default();
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("an address")) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("an address");
        let own = heard.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length], &own, second, false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let own = heard.clone();
        thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let own = own.clone();
                thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                        let asked = stream.read_exact(&mut question).is_ok();
                        let Some(answer) = asked.then(|| answer(&question, &own, second, true)).flatten() else {
                            return;
                        };
                        let length = u16::try_from(answer.len()).expect("a short answer");
                        if stream.write_all(&length.to_be_bytes()).and_then(|()| stream.write_all(&answer)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }
}

fn answer(question: &[u8], heard: &Heard, second: bool, tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?;
    let name = query.name().clone();
    let text = name.to_ascii();
    let label = text.split('.').next().unwrap_or_default().to_owned();
    let good = heard.hear(&label);
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    message.add_query(query.clone());
    let subnet = question.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    // The clients of codfw alone are led here.
    let of_codfw = match subnet {
        Some(EdnsOption::Subnet(subnet)) => {
            heard.hear(&subnet.addr().to_string());
            subnet.addr() == IpAddr::V4(Ipv4Addr::new(10, 192, 0, 0))
        }
        _ => false,
    };
    if let Some(subnet) = subnet {
        let mut edns = Edns::new();
        edns.options_mut().insert(subnet.clone());
        message.set_edns(edns);
    }
    let a = query.query_type() == RecordType::A;
    let lead = |message: &mut Message, seconds: u32, address: Ipv4Addr| {
        if a {
            message.add_answer(Record::from_rdata(name.clone(), seconds, RData::A(A(address))));
        }
    };
    match label.as_str() {
        _ if good => lead(&mut message, 0, ELSEWHERE),
        "dns-servfail" => message.metadata.response_code = ResponseCode::ServFail,
        "dns-nxdomain" => message.metadata.response_code = ResponseCode::NXDomain,
        "dns-silent" => return None,
        "dns-disagree" => lead(&mut message, 0, if second { HERE } else { ELSEWHERE }),
        "dns-half-dead" if second => return None,
        "dns-half-dead" => lead(&mut message, 0, ELSEWHERE),
        // Whole over TCP alone.
        "dns-tcp-only" => {
            lead(&mut message, 0, HERE);
            message.metadata.truncation = !tcp;
            if !tcp {
                message.answers.clear();
            }
        }
        "dns-six" if !a => {
            message.add_answer(Record::from_rdata(name.clone(), 0, RData::AAAA(AAAA(HERE_SIX))));
        }
        "dns-six" => lead(&mut message, 0, ELSEWHERE),
        "dns-cname" => {
            let other = Name::from_str("other.test.").expect("a name");
            message.add_answer(Record::from_rdata(name.clone(), 0, RData::CNAME(CNAME(other.clone()))));
            if a {
                message.add_answer(Record::from_rdata(other, 0, RData::A(A(HERE))));
            } else {
                let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 1);
                message.add_authority(Record::from_rdata(Name::root(), 0, RData::SOA(soa)));
            }
        }
        "dns-clients" => lead(&mut message, 0, if of_codfw { HERE } else { ELSEWHERE }),
        "dns-held" => lead(&mut message, HELD, HERE),
        "dns-ttl-zero" => lead(&mut message, 0, HERE),
        "dns-ttl-top-bit" => lead(&mut message, 1 << 31, HERE),
        "dns-cname-loop" => {
            let other = Name::from_str("other.test.").expect("a name");
            message.add_answer(Record::from_rdata(name.clone(), 1, RData::CNAME(CNAME(other.clone()))));
            message.add_answer(Record::from_rdata(other, 1, RData::CNAME(CNAME(name.clone()))));
        }
        // Over UDP it does not fit, and over TCP the connection breaks off.
        "dns-truncated" if tcp => return None,
        "dns-truncated" => {
            lead(&mut message, 0, ELSEWHERE);
            message.metadata.truncation = true;
        }
        "dns-lame" => {
            lead(&mut message, 0, ELSEWHERE);
            message.metadata.authoritative = false;
        }
        "dns-fail-address" => lead(&mut message, 0, NOWHERE),
        "dns-without-subnet" => {
            lead(&mut message, 0, ELSEWHERE);
            message.edns = None;
        }
        _ => message.metadata.response_code = ResponseCode::Refused,
    }
    message.to_vec().ok()
}

/// A Prometheus. The query says how the answer fails.
pub struct Prometheus {
    pub url: String,
    pub heard: Heard,
}

impl Prometheus {
    pub fn start() -> Self {
        let heard = Heard::default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (own, own_url) = (heard.clone(), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, url) = (own.clone(), own_url.clone());
                thread::spawn(move || serve(stream, &own, &url));
            }
        });
        Self { url, heard }
    }
}

const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}}"#;
const WARNED: &str = r#"{"status":"success","warnings":["a store did not answer"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}}"#;

fn serve(mut stream: TcpStream, heard: &Heard, url: &str) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let what =
        line.split("query=").nth(1).unwrap_or("elsewhere").split(['&', ' ']).next().unwrap_or_default().to_owned();
    let good = heard.hear(&what);
    let mut tell = |status: &str, more: &str, body: &str| {
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    };
    match what.as_str() {
        _ if good => tell("200 OK", "", VECTOR),
        "prometheus_token" if String::from_utf8_lossy(&request).contains("authorization: Bearer a-token\r\n") => {
            tell("200 OK", "", VECTOR);
        }
        "prometheus_token" => tell("401 Unauthorized", "", ""),
        "prometheus_503" => tell("503 Service Unavailable", "", "starting"),
        "prometheus_warnings" => tell("200 OK", "", WARNED),
        "prometheus_redirect" => tell("302 Found", &format!("Location: {url}/elsewhere\r\n"), ""),
        "prometheus_slow" => thread::sleep(Duration::from_secs(30)),
        "prometheus_huge" => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 << 20);
            let chunk = vec![b' '; 1 << 16];
            for _ in 0..1600 {
                if stream.write_all(&chunk).is_err() {
                    return;
                }
            }
        }
        _ => tell("404 Not Found", "", ""),
    }
}

/// Passes everything on to etcd after five seconds, until it is healed.
pub struct Slow {
    pub url: String,
    pub heard: Heard,
}

impl Slow {
    pub fn start(etcd: &str) -> Self {
        let heard = Heard::default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (own, etcd) = (heard.clone(), etcd.trim_start_matches("http://").to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let good = own.hear("connection");
                let etcd = etcd.clone();
                thread::spawn(move || {
                    if !good {
                        thread::sleep(Duration::from_secs(5));
                    }
                    let Ok(behind) = TcpStream::connect(etcd) else { return };
                    let (mut from, mut to) = (stream.try_clone().expect("a copy"), behind.try_clone().expect("a copy"));
                    thread::spawn(move || std::io::copy(&mut from, &mut to));
                    let (mut from, mut to) = (behind, stream);
                    let _ = std::io::copy(&mut from, &mut to);
                });
            }
        });
        Self { url, heard }
    }
}
