//! DNS: where clients are led. Each authoritative server is asked once on behalf of each client network, live, with nothing in
//! between that could remember.
//!
//! Never a sign of absence from less than all of them: one that does not answer leaves it unknown.

mod exchange;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use poolguard_policy::evidence::{Answer, Says, Why};
use poolguard_policy::pooling::Evidence;
use poolguard_policy::sighting::{Limits, Sighting};

use super::metrics::Metrics;
use super::polled::Polled;
use super::recent::Recent;
use super::{Asked, Bad, lock};
use crate::config::{DnsSource, Network};
use crate::runtime::news::News;
use read::Leads;

/// Nothing is believed to have been missed while a name was looked at within as many intervals, or some seconds.
const GAP: u32 = 4;
const GAP_AT_LEAST: Duration = Duration::from_secs(10);

/// The authoritative servers of some zones.
#[derive(Debug)]
pub(super) struct Dns {
    source: String,
    config: DnsSource,
    limits: Limits,
    networks: Vec<Network>,
    metrics: Metrics,
    /// By name and datacenter.
    memory: Mutex<Recent<(String, String), Sighting>>,
    /// Since when a name has been in doubt, and why.
    doubts: Mutex<Recent<String, (Why, Timestamp)>>,
    polled: Polled<String, Look>,
    news: Arc<News<Asked>>,
}

/// What all servers said of a name on behalf of all networks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    /// The addresses that it leads to in each datacenter, and the longest TTL of those answers.
    seen: BTreeMap<String, (BTreeSet<IpAddr>, SignedDuration)>,
    /// Why it proves no absence.
    bad: Option<Bad>,
}

impl Dns {
    pub(super) fn new(
        source: &str,
        config: &DnsSource,
        networks: &[Network],
        metrics: Metrics,
        news: Arc<News<Asked>>,
    ) -> Self {
        Self {
            source: source.to_owned(),
            limits: Limits {
                longest: SignedDuration::try_from(config.max_ttl).unwrap_or(SignedDuration::MAX),
                gap: SignedDuration::try_from((config.interval * GAP).max(GAP_AT_LEAST)).unwrap_or(SignedDuration::MAX),
            },
            networks: networks.to_vec(),
            metrics,
            memory: Mutex::default(),
            doubts: Mutex::default(),
            polled: Polled::new(config.interval),
            config: config.clone(),
            news,
        }
    }

    /// Asks all servers now.
    pub(super) async fn ask(&self, entry: &Evidence, name: &str, names: &[String]) -> Vec<Answer> {
        let look = self.look(name).await;
        self.answers(entry, name, &look, names, Timestamp::now())
    }

    /// What the last look saw.
    pub(super) fn followed(&self, entry: &Evidence, name: &str, names: &[String], now: Timestamp) -> Vec<Answer> {
        let look = self.polled.want(&name.to_owned()).unwrap_or_else(|| Look {
            seen: BTreeMap::new(),
            bad: Some(Bad::new(Why::NotAnswered, "not looked up yet")),
        });
        self.answers(entry, name, &look, names, now)
    }

    /// From now on the name is looked up again and again.
    pub(super) fn want(&self, name: &str) {
        self.polled.want(&name.to_owned());
    }

    /// Keeps looking.
    pub(super) async fn follow(&self) {
        let told = |looks: &[(String, Look)]| {
            if looks.is_empty() {
                return self.metrics.idle(&self.source);
            }
            let lost = |(_, look): &(String, Look)| {
                matches!(&look.bad, Some(Bad { why: Why::Unreachable | Why::TimedOut, .. }))
            };
            self.metrics.up(&self.source, !looks.iter().all(lost));
            for (name, _) in looks {
                self.news.about(Asked::Name(name.clone()));
            }
        };
        self.polled.follow(async |name: String| self.look(&name).await, told).await;
    }

    /// Asks, and remembers what was seen.
    async fn look(&self, text: &str) -> Look {
        let Ok(mut name) = Name::from_utf8(text) else {
            return Look { seen: BTreeMap::new(), bad: Some(Bad::new(Why::Malformed, "is not a name of DNS")) };
        };
        name.set_fqdn(true);
        let networks: Vec<Option<IpNet>> = match self.config.client_networks.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let views = self.config.servers.iter().flat_map(|server| networks.iter().map(|network| (*server, *network)));
        let told = join_all(views.map(|(server, network)| self.view(server, &name, network))).await;
        let look = self.summary(told);
        self.remember(text, &look, Timestamp::now());
        look
    }

    /// What one server says on behalf of one network, of both families of addresses, and why that may not be all.
    async fn view(&self, server: SocketAddr, name: &Name, network: Option<IpNet>) -> (Leads, Option<Bad>) {
        let question = async |kind| {
            let start = Instant::now();
            let told = exchange::ask(server, name, kind, network, self.config.timeout).await;
            let led = told.and_then(|message| read::read(&message, name, kind, network.is_some()));
            self.metrics.asked(&self.source, start.elapsed(), &led);
            led
        };
        let (four, six) = futures::join!(question(RecordType::A), question(RecordType::AAAA));
        let on_behalf = network.map(|network| format!(" for clients in {network}")).unwrap_or_default();
        let mut all = Leads { addresses: Vec::new(), ttl: SignedDuration::ZERO };
        let mut bad = None;
        for led in [four, six] {
            match led {
                Ok(leads) => {
                    all.addresses.extend(leads.addresses);
                    all.ttl = all.ttl.max(leads.ttl);
                }
                Err(Bad { why, detail }) => {
                    let named = detail.contains(&server.to_string());
                    let detail = if named { detail } else { format!("{server}: {detail}") };
                    bad = bad.or(Some(Bad::new(why, &format!("{detail}{on_behalf}"))));
                }
            }
        }
        if all.addresses.is_empty() {
            let missing = || Bad::new(Why::Missing, &format!("{server} knows no address of it{on_behalf}"));
            bad = Some(bad.unwrap_or_else(missing));
        }
        (all, bad)
    }

    fn summary(&self, told: Vec<(Leads, Option<Bad>)>) -> Look {
        let mut look = Look { seen: BTreeMap::new(), bad: None };
        for (leads, bad) in told {
            look.bad = look.bad.or(bad);
            for address in leads.addresses {
                let Some(datacenter) = self.datacenter(address) else {
                    let detail = format!("it leads to {address}, which lies in no configured network");
                    look.bad = look.bad.or(Some(Bad::new(Why::NotConfigured, &detail)));
                    continue;
                };
                let seen = look.seen.entry(datacenter.to_owned()).or_default();
                seen.0.insert(address);
                seen.1 = seen.1.max(leads.ttl);
            }
        }
        look
    }

    fn datacenter(&self, address: IpAddr) -> Option<&str> {
        let of = |network: &&Network| network.cidrs.iter().any(|cidr| cidr.contains(&address));
        self.networks.iter().find(of).map(|network| network.datacenter.as_str())
    }

    fn remember(&self, name: &str, look: &Look, now: Timestamp) {
        let mut memory = lock(&self.memory);
        for datacenter in self.networks.iter().map(|network| &network.datacenter) {
            let key = (name.to_owned(), datacenter.clone());
            let seen = look.seen.get(datacenter).map(|(_, ttl)| *ttl);
            // A look that proves no absence changes nothing but for what it saw.
            if seen.is_some() || look.bad.is_none() {
                let after = Sighting::after(memory.get(&key).copied(), seen, self.limits, now);
                memory.insert(key, after);
            }
        }
        drop(memory);
        let mut doubts = lock(&self.doubts);
        match &look.bad {
            None => doubts.remove(&name.to_owned()),
            Some(bad) => {
                let known = doubts.get(&name.to_owned()).filter(|(known, _)| *known == bad.why);
                let since = known.map_or(now, |(_, since)| *since);
                doubts.insert(name.to_owned(), (bad.why, since));
            }
        }
    }

    fn answers(&self, entry: &Evidence, name: &str, look: &Look, names: &[String], now: Timestamp) -> Vec<Answer> {
        let memory = lock(&self.memory);
        let elsewhere: Vec<String> =
            look.seen.values().flat_map(|(addresses, _)| addresses).take(3).map(ToString::to_string).collect();
        names
            .iter()
            .map(|datacenter| {
                let known = memory.get(&(name.to_owned(), datacenter.clone()));
                let (says, detail, since) = if !self.networks.iter().any(|network| network.datacenter == *datacenter) {
                    let detail = format!("the operator's configuration has no networks of {datacenter}");
                    (Says::Unknown(Why::NotConfigured), detail, None)
                } else if let Some((addresses, _)) = look.seen.get(datacenter) {
                    let addresses: Vec<String> = addresses.iter().take(3).map(ToString::to_string).collect();
                    let since = known.map(|known| known.since);
                    (Says::Serving, format!("leads to {}", addresses.join(", ")), since)
                } else if let Some(bad) = &look.bad {
                    let since = lock(&self.doubts).get(&name.to_owned()).map(|(_, since)| *since);
                    (Says::Unknown(bad.why), bad.detail.clone(), since)
                } else {
                    let says = known.map_or(Says::Unknown(Why::Unsettled), |known| known.says(now));
                    let until = known.map_or(now, |known| known.held_until).strftime("%H:%M:%S UTC");
                    let led = format!("leads to {}", elsewhere.join(", "));
                    let detail = match says {
                        Says::Draining => format!("{led}, but clients may hold the old answer"),
                        Says::Unknown(_) => {
                            format!("{led}, but has been looked up for too short a time: wait until {until}")
                        }
                        _ => led,
                    };
                    (says, detail, known.map(|known| known.since))
                };
                let after = known.filter(|known| !known.seen && says != Says::Serving).map(|known| known.held_until);
                Answer {
                    evidence: entry.name.clone(),
                    datacenter: datacenter.clone(),
                    says,
                    detail,
                    revision: None,
                    since,
                    not_serving_after: after,
                    read: now,
                }
            })
            .collect()
    }
}
