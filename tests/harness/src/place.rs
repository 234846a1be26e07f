//! Where the programs of a datacenter run: beside us on loopback, or inside an enclosure.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::node::enclosure::{ADDRESS, Enclosure};

/// Where they run.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this machine's loopback; its nodes are played by kwok.
    Loopback,
    /// In an enclosure; its node is real.
    Enclosed(Arc<Enclosure>),
}

impl Place {
    /// The address at which servers are reached there.
    pub fn address(&self) -> &'static str {
        match self {
            Self::Loopback => "127.0.0.1",
            Self::Enclosed(_) => ADDRESS,
        }
    }

    /// The same command, there.
    pub fn enter(&self, command: Command) -> Command {
        match self {
            Self::Loopback => command,
            Self::Enclosed(enclosure) => enclosure.wrap(&command),
        }
    }

    /// Whether its node is real.
    pub fn is_enclosed(&self) -> bool {
        matches!(self, Self::Enclosed(_))
    }

    /// A program there, with what somebody has set up for their own clusters kept away, and what it writes inside `folder`.
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        isolate(&mut command, folder);
        self.enter(command)
    }
}

fn isolate(command: &mut Command, folder: &Path) {
    for (name, _) in std::env::vars_os() {
        let foreign = ["KUBE", "HELM_", "ETCD", "KWOK_", "XDG_"];
        if name.to_str().is_some_and(|name| foreign.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command.env("HOME", folder).env("TMPDIR", folder);
}
