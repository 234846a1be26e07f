//! Between a client and servers on loopback: passes bytes on, leads new connections to whoever is on the list, and can fall silent
//! while every connection stays open, as a network does that has forgotten a connection.
//!
//! Never: a look into what is passed on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// A relay.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    targets: Mutex<Vec<u16>>,
    next: AtomicUsize,
    /// New connections are accepted, and nothing else happens to them.
    silent: AtomicBool,
    /// Connections of a generation before this one are dead, and nobody is told.
    generation: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn targets(&self) -> MutexGuard<'_, Vec<u16>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to whoever is next on the list and listens.
    fn connect(&self) -> Option<TcpStream> {
        let targets = self.targets().clone();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let turns = (0..targets.len()).map(|turn| targets[(first + turn) % targets.len()]);
        turns.into_iter().find_map(|port| TcpStream::connect(("127.0.0.1", port)).ok())
    }

    /// Leads one connection on, until one side ends it.
    fn lead(self: &Arc<Self>, client: TcpStream) {
        let generation = self.generation.load(Ordering::SeqCst);
        let mut ends = Vec::new();
        if let Ok(end) = client.try_clone() {
            ends.push(end);
        }
        if self.silent.load(Ordering::SeqCst) {
            self.open().extend(ends);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pass(client, None, u64::MAX));
            return;
        }
        // Whoever finds nobody there sees the connection end.
        let Some(server) = self.connect() else { return };
        let (Ok(from), Ok(to), Ok(end)) = (server.try_clone(), client.try_clone(), server.try_clone()) else { return };
        ends.push(end);
        self.open().extend(ends);
        let shared = Arc::clone(self);
        thread::spawn(move || shared.pass(from, Some(to), generation));
        let shared = Arc::clone(self);
        thread::spawn(move || shared.pass(client, Some(server), generation));
    }

    /// Passes on what one side says, while the connection is not dead.
    fn pass(&self, mut from: TcpStream, mut to: Option<TcpStream>, generation: u64) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let dead = self.generation.load(Ordering::SeqCst) > generation;
            if let Some(to) = to.as_mut().filter(|_| !dead)
                && to.write_all(&buffer[..length]).is_err()
            {
                break;
            }
        }
        let dead = self.generation.load(Ordering::SeqCst) > generation;
        if let Some(to) = to.filter(|_| !dead) {
            // Whoever has nothing more to say may still listen.
            let _ = to.shutdown(Shutdown::Write);
        }
    }
}

impl Relay {
    /// Listens for as long as the process lives.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start(targets: &[u16]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a relay")?;
        let port = listener.local_addr().context("no port for a relay")?.port();
        let shared = Arc::new(Shared { targets: Mutex::new(targets.to_vec()), ..Shared::default() });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                own.lead(client);
            }
        });
        Ok(Self { port, shared })
    }

    /// New connections go to these from now on, in turn; those that are open stay where they are.
    pub fn lead_to(&self, targets: &[u16]) {
        *self.shared.targets() = targets.to_vec();
    }

    /// Nothing more is passed on over the connections that are open. They stay open, and nobody is told.
    pub fn forget_open(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// The same, and new connections are accepted and hear nothing either.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
        self.forget_open();
    }

    /// New connections are led on again; those that fell silent stay so.
    pub fn speak(&self) {
        self.shared.silent.store(false, Ordering::SeqCst);
    }

    /// Ends every connection.
    pub fn cut(&self) {
        for end in self.shared.open().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;
    use crate::wait::wait_for;

    /// A server that says its letter, and then whatever it hears.
    fn server(letter: u8) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut byte = [letter];
                    while client.write_all(&byte).is_ok() && client.read_exact(&mut byte).is_ok() {}
                });
            }
        });
        port
    }

    fn connect(relay: &Relay) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", relay.port)).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        client
    }

    fn hear(client: &mut TcpStream) -> Option<u8> {
        let mut byte = [0];
        client.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    #[test]
    fn connections_are_led_in_turn_to_who_is_on_the_list() {
        let (a, b) = (server(b'a'), server(b'b'));
        let relay = Relay::start(&[a, b]).expect("a relay");
        let mut heard: Vec<_> = (0..4).map(|_| hear(&mut connect(&relay))).collect();
        heard.sort_unstable();
        assert_eq!(heard, [Some(b'a'), Some(b'a'), Some(b'b'), Some(b'b')]);
        let mut kept = connect(&relay);
        hear(&mut kept).expect("a letter");
        relay.lead_to(&[b]);
        assert_eq!(hear(&mut connect(&relay)), Some(b'b'));
        kept.write_all(b"x").expect("it is still led");
        assert_eq!(hear(&mut kept), Some(b'x'));
        relay.cut();
        assert_eq!(hear(&mut kept), None);
    }

    #[test]
    fn what_has_fallen_silent_stays_open_and_silent() {
        let relay = Relay::start(&[server(b'a')]).expect("a relay");
        let mut old = connect(&relay);
        assert_eq!(hear(&mut old), Some(b'a'));
        relay.fall_silent();
        let known = relay.shared.open().len();
        let mut new = connect(&relay);
        wait_for("the relay to take the connection", Duration::from_secs(10), || {
            anyhow::ensure!(relay.shared.open().len() > known, "it has not");
            Ok(())
        })
        .expect("a connection that is taken while all is silent");
        relay.speak();
        assert_eq!(hear(&mut connect(&relay)), Some(b'a'));
        for client in [&mut old, &mut new] {
            client.write_all(b"x").expect("it is open");
            client.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
            let silent = client.read(&mut [0]).expect_err("nothing is heard");
            assert!(matches!(silent.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent}");
        }
    }
}
