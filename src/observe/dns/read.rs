//! What an answer says: the addresses that a client would go to, and for how long it would hold them. No I/O.
//!
//! Never lenient: what does not lead to an address, or is not told with authority, is no sign of absence.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{Name, RData, RecordType};
use jiff::SignedDuration;
use poolguard_policy::evidence::Why;
use poolguard_policy::sighting::ttl;

use crate::observe::Bad;

/// More CNAMEs than this are a mistake.
const CHAIN: usize = 16;

/// Where an answer leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leads {
    /// The addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// The longest that a client may hold any part of the answer.
    pub(super) ttl: SignedDuration,
}

/// Reads the answer to a question about `name`. An answer without addresses of this kind is an empty one.
pub(super) fn read(message: &Message, name: &Name, kind: RecordType, with_subnet: bool) -> Result<Leads, Bad> {
    let code = message.metadata.response_code;
    match code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(Bad::new(Why::Missing, "NXDOMAIN: the name does not exist")),
        other => return Err(Bad::new(Why::Unreachable, &format!("the server answered {other}"))),
    }
    if !message.metadata.authoritative {
        return Err(Bad::new(Why::Unreachable, "the server has no authority over the name (lame)"));
    }
    if message.metadata.truncation {
        return Err(Bad::new(Why::Malformed, "the answer is truncated, over TCP too"));
    }
    let heard = message.edns.as_ref().is_some_and(|edns| edns.option(EdnsCode::Subnet).is_some());
    if with_subnet && !heard {
        return Err(Bad::new(
            Why::Incomplete,
            "the server does not answer for a client's network (EDNS client subnet)",
        ));
    }
    let mut leads = Leads { addresses: Vec::new(), ttl: SignedDuration::ZERO };
    let mut at = name.clone();
    for _ in 0..CHAIN {
        let here = || message.answers.iter().filter(|record| record.name == at);
        for record in here() {
            let address = match &record.data {
                RData::A(address) if kind == RecordType::A => IpAddr::V4(address.0),
                RData::AAAA(address) if kind == RecordType::AAAA => IpAddr::V6(address.0),
                _ => continue,
            };
            leads.addresses.push(address);
            leads.ttl = leads.ttl.max(ttl(record.ttl));
        }
        let next = here().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        match next {
            Some((target, seconds)) => {
                leads.ttl = leads.ttl.max(ttl(seconds));
                at = target;
            }
            // An authority says with its SOA that there is nothing of this kind.
            None if leads.addresses.is_empty() && at != *name && !denied(message) => {
                let detail = format!("it leads to {at}, about which the answer says nothing");
                return Err(Bad::new(Why::Incomplete, &detail));
            }
            None => return Ok(leads),
        }
    }
    Err(Bad::new(Why::Malformed, "its CNAMEs lead in a circle"))
}

fn denied(message: &Message) -> bool {
    message.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::op::{Edns, MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_str(text).expect("a name")
    }

    fn answer(records: Vec<Record>) -> Message {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.metadata.authoritative = true;
        message.add_answers(records);
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new([10, 64, 0, 0].into(), 12, 12)));
        message.set_edns(edns);
        message
    }

    fn a(owner: &str, seconds: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), seconds, RData::A(A::new(10, 2, 2, last)))
    }

    fn cname(owner: &str, seconds: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), seconds, RData::CNAME(CNAME(name(target))))
    }

    fn read_a(message: &Message) -> Result<(usize, i64), Why> {
        read(message, &name("x.wmnet."), RecordType::A, true)
            .map(|leads| (leads.addresses.len(), leads.ttl.as_secs()))
            .map_err(|bad| bad.why)
    }

    #[test]
    fn addresses_at_the_end_of_the_chain_count_and_no_others() {
        assert_eq!(read_a(&answer(vec![a("x.wmnet.", 10, 1), a("x.wmnet.", 30, 2)])), Ok((2, 30)));
        let chain = vec![cname("x.wmnet.", 60, "y.wmnet."), a("y.wmnet.", 10, 1), a("z.wmnet.", 10, 2)];
        assert_eq!(read_a(&answer(chain)), Ok((1, 60)));
        assert_eq!(read_a(&answer(Vec::new())), Ok((0, 0)));
    }

    #[test]
    fn a_ttl_with_its_top_bit_set_is_none() {
        assert_eq!(read_a(&answer(vec![a("x.wmnet.", 1 << 31, 1)])), Ok((1, 0)));
        assert_eq!(read_a(&answer(vec![a("x.wmnet.", i32::MAX as u32, 1)])), Ok((1, i64::from(i32::MAX))));
    }

    #[test]
    fn what_proves_nothing_is_an_error() {
        let looping = vec![cname("x.wmnet.", 1, "y.wmnet."), cname("y.wmnet.", 1, "x.wmnet.")];
        assert_eq!(read_a(&answer(looping)), Err(Why::Malformed));
        assert_eq!(read_a(&answer(vec![cname("x.wmnet.", 1, "elsewhere.")])), Err(Why::Incomplete));
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message = answer(vec![a("x.wmnet.", 10, 1)]);
            change(&mut message);
            read_a(&message)
        };
        assert_eq!(changed(&|message| message.metadata.authoritative = false), Err(Why::Unreachable));
        assert_eq!(changed(&|message| message.metadata.truncation = true), Err(Why::Malformed));
        assert_eq!(changed(&|message| message.metadata.response_code = ResponseCode::ServFail), Err(Why::Unreachable));
        assert_eq!(changed(&|message| message.metadata.response_code = ResponseCode::NXDomain), Err(Why::Missing));
        assert_eq!(changed(&|message| message.edns = None), Err(Why::Incomplete));
    }
}
