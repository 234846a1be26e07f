//! What the two Secrets hold, and what they are to hold. Pure: what cannot be read is as if it were not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use super::authority::{Authority, Error, Pair, life};
use super::plan::{self, Life, Serving, Step};
use crate::config::Certificates;
use crate::runtime::certificate::accepted;

/// The data of a Secret.
pub(super) type Data = BTreeMap<String, ByteString>;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";

/// Authorities, and what is served.
pub(super) struct Held {
    authority: Option<Authority>,
    next: Option<Authority>,
    previous: Option<String>,
    served: Option<Pair>,
}

impl Held {
    /// Reads the Secrets.
    pub(super) fn read(authority: &Data, serving: &Data) -> Self {
        let signer = |certificate: &str, key: &str| {
            let pair = Pair { certificate: text(authority, certificate)?, key: text(authority, key)? };
            match Authority::read(&pair) {
                Ok(authority) => Some(authority),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, key, "an authority cannot be used");
                    None
                }
            }
        };
        let (signs, next) = (signer("ca.crt", "ca.key"), signer("next.crt", "next.key"));
        // Where the authority is lost, what was trusted stays so until a new one serves.
        let previous = if signs.is_some() { text(authority, "previous.crt") } else { text(serving, BUNDLE) };
        let served = text(serving, CERTIFICATE).zip(text(serving, KEY));
        let served = served.map(|(certificate, key)| Pair { certificate, key });
        Self { authority: signs, next, previous, served }
    }

    /// All authorities that are to be trusted, PEM.
    pub(super) fn bundle(&self) -> String {
        let signers = [&self.authority, &self.next];
        let signers = signers.into_iter().flatten().map(|authority| authority.pair.certificate.as_str());
        signers.chain(self.previous.as_deref()).collect::<Vec<_>>().join("")
    }

    /// When the authority that signs ends.
    pub(super) fn end(&self) -> Option<Timestamp> {
        self.authority.as_ref().map(|authority| authority.life.end)
    }

    /// The next step of a rotation, while the API server trusts what is `registered`, PEM.
    pub(super) fn step(&self, config: &Certificates, registered: &str, now: Timestamp) -> Option<Step> {
        let signers = [&self.authority, &self.next];
        let mut signers = signers.into_iter().flatten();
        let held = plan::Held {
            authority: self.authority.as_ref().map(|authority| authority.life),
            next: self.next.as_ref().map(|next| next.life),
            previous: self.previous.is_some(),
            serving: self.serving(&config.names, now),
            in_force: signers.all(|signer| registered.contains(&signer.pair.certificate)),
        };
        plan::step(&held, config.overlap, now)
    }

    fn serving(&self, names: &[String], now: Timestamp) -> Serving {
        let Some(served) = &self.served else { return Serving::Unusable };
        let by = |authorities: &str| fit(served, authorities, names, now);
        if let Some(authority) = &self.authority
            && let Some(life) = by(&authority.pair.certificate)
        {
            return Serving::Current(life);
        }
        if by(&self.bundle()).is_some() { Serving::Former } else { Serving::Unusable }
    }

    /// Does a step.
    pub(super) fn apply(&mut self, step: Step, config: &Certificates, now: Timestamp) -> Result<(), Error> {
        match step {
            Step::Begin => {
                self.authority = Some(Authority::make(config.authority_validity, now)?);
                self.next = None;
            }
            Step::Introduce => self.next = Some(Authority::make(config.authority_validity, now)?),
            Step::Promote => {
                self.previous = self.authority.take().map(|authority| authority.pair.certificate);
                self.authority = self.next.take();
            }
            Step::Issue => {
                if let Some(authority) = &self.authority {
                    self.served = Some(authority.issue(&config.names, config.serving_validity, now)?);
                }
            }
            Step::Drop => self.previous = None,
        }
        Ok(())
    }

    /// The data of the Secret that only the controller reads.
    pub(super) fn authority_data(&self) -> Data {
        let mut data = Data::new();
        for (signer, certificate, key) in [(&self.authority, "ca.crt", "ca.key"), (&self.next, "next.crt", "next.key")]
        {
            if let Some(Authority { pair, .. }) = signer {
                put(&mut data, certificate, &pair.certificate);
                put(&mut data, key, &pair.key);
            }
        }
        if let Some(previous) = &self.previous {
            put(&mut data, "previous.crt", previous);
        }
        data
    }

    /// The data of the Secret that the webhook mounts, once there is a certificate.
    pub(super) fn serving_data(&self) -> Option<Data> {
        let Pair { certificate, key } = self.served.as_ref()?;
        let mut data = Data::new();
        put(&mut data, CERTIFICATE, certificate);
        put(&mut data, KEY, key);
        put(&mut data, BUNDLE, &self.bundle());
        Some(data)
    }
}

/// How long a pair lives, if a client that trusts these authorities accepts it under each name.
fn fit(pair: &Pair, authorities: &str, names: &[String], now: Timestamp) -> Option<Life> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    CertifiedKey::from_der(chain.clone(), key, &provider).ok()?;
    let now = UnixTime::since_unix_epoch(now.duration_since(Timestamp::UNIX_EPOCH).try_into().ok()?);
    for name in names {
        let name = ServerName::try_from(name.as_str()).ok()?;
        accepted(&chain, Some(authorities.as_bytes()), Some(&name), now).ok()?;
    }
    life(chain.first()?).ok()
}

fn text(data: &Data, key: &str) -> Option<String> {
    data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).filter(|text| !text.is_empty())
}

fn put(data: &mut Data, key: &str, text: &str) {
    data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> Certificates {
        Certificates {
            names: vec!["poolguard-webhook.poolguard.svc".to_owned(), "127.0.0.1".to_owned()],
            authority_validity: Duration::from_secs(900),
            serving_validity: Duration::from_secs(300),
            overlap: Duration::from_secs(10),
            ..Certificates::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    /// Steps until there is none, each through the Secrets, as a controller that dies after each of them would.
    fn settle(held: Held, registered: &str, second: i64) -> (Held, Vec<Step>) {
        let (mut held, mut steps) = (held, Vec::new());
        while let Some(step) = held.step(&config(), registered, at(second)) {
            steps.push(step);
            held.apply(step, &config(), at(second)).expect("a step");
            held = Held::read(&held.authority_data(), &held.serving_data().unwrap_or_default());
            assert!(steps.len() < 9, "it never ends: {steps:?}");
        }
        (held, steps)
    }

    fn trusts(bundle: &str, held: &Held, second: i64) -> bool {
        fit(held.served.as_ref().expect("a pair"), bundle, &config().names, at(second)).is_some()
    }

    #[test]
    fn whatever_is_served_was_trusted_before_through_two_rotations() {
        let (mut held, steps) = settle(Held::read(&Data::new(), &Data::new()), "", 0);
        assert_eq!(steps, [Step::Begin, Step::Issue]);
        let (first, mut bundle, mut seen) = (held.bundle(), held.bundle(), Vec::new());
        for second in 1..1900 {
            // The API server trusts what was the bundle a second ago.
            let before = held.bundle();
            let (after, steps) = settle(held, &bundle, second);
            held = after;
            assert!(trusts(&bundle, &held, second), "what is served at {second} was not trusted: {steps:?}");
            bundle = before;
            seen.extend(steps);
        }
        let count = |step: Step| seen.iter().filter(|seen| **seen == step).count();
        assert_eq!([Step::Begin, Step::Introduce, Step::Promote, Step::Drop].map(count), [0, 3, 3, 3]);
        assert!(!held.bundle().contains(&first), "the first authority is gone");
    }

    #[test]
    fn a_lost_authority_is_made_anew_while_the_old_one_is_still_trusted() {
        let (held, _) = settle(Held::read(&Data::new(), &Data::new()), "", 0);
        let (old, serving) = (held.bundle(), held.serving_data().expect("a certificate"));
        let (held, steps) = settle(Held::read(&Data::new(), &serving), &old, 5);
        assert_eq!(steps, [Step::Begin], "nothing is served that is not trusted yet");
        assert!(held.bundle().ends_with(&old) && held.bundle() != old, "both are trusted");
        assert!(trusts(&old, &held, 5), "and what is served has not changed");
        let both = held.bundle();
        let (held, steps) = settle(held, &both, 6);
        assert_eq!(steps, [Step::Issue]);
        assert_eq!(settle(held, &both, 16).1, [Step::Drop]);
    }

    #[test]
    fn what_somebody_has_spoilt_is_made_anew() {
        let (held, _) = settle(Held::read(&Data::new(), &Data::new()), "", 0);
        let other = settle(Held::read(&Data::new(), &Data::new()), "", 0).0;
        let theirs = other.serving_data().expect("a certificate");
        for (key, value) in [
            (KEY, theirs[KEY].clone()),
            (CERTIFICATE, theirs[CERTIFICATE].clone()),
            (CERTIFICATE, ByteString(b"half a c".to_vec())),
            (KEY, ByteString(Vec::new())),
        ] {
            let mut serving = held.serving_data().expect("a certificate");
            serving.insert(key.to_owned(), value);
            let (mended, steps) = settle(Held::read(&held.authority_data(), &serving), &held.bundle(), 1);
            assert_eq!(steps, [Step::Issue], "{key}");
            assert!(trusts(&held.bundle(), &mended, 1));
        }
        let mut authority = held.authority_data();
        authority.insert("ca.key".to_owned(), other.authority_data()["ca.key"].clone());
        assert_eq!(
            settle(Held::read(&authority, &held.serving_data().expect("a certificate")), &held.bundle(), 1).1,
            [Step::Begin]
        );
    }

    #[test]
    fn a_name_that_is_wanted_and_not_in_the_certificate_makes_a_new_one() {
        let (held, _) = settle(Held::read(&Data::new(), &Data::new()), "", 0);
        let further = Certificates { names: vec!["other.poolguard.svc".to_owned()], ..config() };
        assert_eq!(held.step(&further, &held.bundle(), at(1)), Some(Step::Issue));
    }
    #[test]
    fn a_clock_that_is_an_hour_off_changes_nothing() {
        for off in [-3600, 0, 3600] {
            // Made by a controller whose clock is off, looked at by an API server whose clock is right, and the other way round.
            let long = Certificates { authority_validity: Duration::from_secs(90_000), ..Certificates::default() };
            let mut held = Held::read(&Data::new(), &Data::new());
            for step in [Step::Begin, Step::Issue] {
                held.apply(step, &long, at(off)).expect("a step");
            }
            let served = held.served.as_ref().expect("a pair");
            assert!(fit(served, &held.bundle(), &long.names, at(0)).is_some(), "{off}");
        }
    }
}
