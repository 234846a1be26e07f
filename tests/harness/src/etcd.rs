//! An etcd of one or several members with its v2 API, as conftool has it: started, broken, restored from an older state, and
//! guarded by passwords.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use crate::http::request;
use crate::ports::Ports;
use crate::programs::Programs;
use crate::run::Run;
use crate::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);
const KEYS: &str = "/v2/keys/conftool/v1/discovery";

/// A user and a password.
pub type Credentials<'a> = Option<(&'a str, &'a str)>;

/// A cluster.
#[derive(Debug)]
pub struct Etcd {
    name: String,
    members: Vec<Member>,
    program: PathBuf,
    folder: PathBuf,
    tls: Option<(u16, PathBuf, PathBuf)>,
    pids: Mutex<Vec<u32>>,
    run: Arc<Run>,
    _ports: Ports,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
}

impl Etcd {
    /// Starts it, and waits until it has a leader.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(run: &Arc<Run>, programs: &Programs, name: &str, members: usize) -> Result<Self> {
        Self::start_with(run, programs, name, members, None)
    }

    /// One member, which speaks TLS too, with this certificate and key.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_tls(run: &Arc<Run>, programs: &Programs, name: &str, identity: (PathBuf, PathBuf)) -> Result<Self> {
        Self::start_with(run, programs, name, 1, Some(identity))
    }

    fn start_with(
        run: &Arc<Run>,
        programs: &Programs,
        name: &str,
        members: usize,
        identity: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self> {
        let mut ports = Ports::new();
        let tls =
            identity.map(|(certificate, key)| Ok::<_, anyhow::Error>((ports.take()?, certificate, key))).transpose()?;
        let members = (0..members)
            .map(|_| Ok(Member { client: ports.take()?, peer: ports.take()? }))
            .collect::<Result<Vec<_>>>()?;
        let this = Self {
            name: name.to_owned(),
            program: programs.path("etcd"),
            folder: run.subfolder(name)?,
            tls,
            pids: Mutex::default(),
            run: Arc::clone(run),
            members,
            _ports: ports,
        };
        for index in 0..this.members.len() {
            let pid = this.start_member(index)?;
            this.pids().push(pid);
        }
        this.ready()?;
        Ok(this)
    }

    /// The URLs that clients use.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://127.0.0.1:{}", member.client)).collect()
    }

    /// The URL of the member that speaks TLS.
    pub fn tls_endpoint(&self) -> Option<String> {
        self.tls.as_ref().map(|(port, ..)| format!("https://127.0.0.1:{port}"))
    }

    fn start_member(&self, index: usize) -> Result<u32> {
        let own = &self.members[index];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let peers = self.members.iter().enumerate().map(|(index, member)| format!("m{index}={}", url(member.peer)));
        let mut listen = vec![url(own.client)];
        let mut command = Command::new(&self.program);
        if let Some((port, certificate, key)) = &self.tls {
            listen.push(format!("https://127.0.0.1:{port}"));
            command.arg(format!("--cert-file={}", certificate.display())).arg(format!("--key-file={}", key.display()));
        }
        self.run.start(
            &format!("{}-{index}", self.name),
            command
                .arg(format!("--name=m{index}"))
                .arg(format!("--data-dir={}", self.data(index).display()))
                .args(["--enable-v2", "--unsafe-no-fsync", "--log-level=error"])
                .arg(format!("--listen-client-urls={}", listen.join(",")))
                .arg(format!("--advertise-client-urls={}", url(own.client)))
                .arg(format!("--listen-peer-urls={}", url(own.peer)))
                .arg(format!("--initial-advertise-peer-urls={}", url(own.peer)))
                .arg(format!("--initial-cluster={}", peers.collect::<Vec<_>>().join(","))),
        )
    }

    fn data(&self, index: usize) -> PathBuf {
        self.folder.join(format!("data-{index}"))
    }

    fn ready(&self) -> Result<()> {
        wait_for(&format!("etcd {}", self.name), SOON, || {
            let answer = request(&self.address(0), "GET", "/health", &[], "")?;
            ensure!(answer.status == 200, "it answers {}", answer.status);
            Ok(())
        })
    }

    /// Waits until a member sees a leader, and a majority behind it.
    ///
    /// # Errors
    /// If there is none for half a minute.
    pub fn has_quorum(&self, index: usize) -> Result<()> {
        wait_for(&format!("member {index} of etcd {} to have a leader", self.name), SOON, || {
            let answer = request(&self.address(index), "GET", "/health", &[], "")?;
            ensure!(answer.status == 200, "it answers {}", answer.status);
            Ok(())
        })
    }

    fn address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.members[index].client)
    }

    fn pids(&self) -> MutexGuard<'_, Vec<u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a signal such as `STOP` to a member.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, index: usize, signal: &str) -> Result<()> {
        let pid = self.pids()[index];
        self.run.signal(pid, signal)
    }

    /// Ends a member, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be ended.
    pub fn end(&self, index: usize) -> Result<()> {
        let pid = self.pids()[index];
        self.run.end(pid, true)
    }

    /// Starts a member again that was ended.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&self, index: usize) -> Result<()> {
        let pid = self.start_member(index)?;
        self.pids()[index] = pid;
        self.ready()
    }

    /// Keeps the state of a single member, to go back to.
    ///
    /// # Errors
    /// If it cannot be stopped, copied and started again.
    pub fn keep(&self) -> Result<()> {
        self.end(0)?;
        copy(&self.data(0), &self.folder.join("kept"))?;
        self.restart(0)
    }

    /// Goes back to the state that was kept.
    ///
    /// # Errors
    /// If it cannot be stopped, copied and started again.
    pub fn restore(&self) -> Result<()> {
        self.end(0)?;
        fs::remove_dir_all(self.data(0)).context("cannot remove etcd's data")?;
        copy(&self.folder.join("kept"), &self.data(0))?;
        self.restart(0)
    }

    /// Writes a value of a record.
    ///
    /// # Errors
    /// If etcd does not take it.
    pub fn put(&self, credentials: Credentials<'_>, record: &str, datacenter: &str, value: &str) -> Result<()> {
        let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("{KEYS}/{record}/{datacenter}");
        self.call(credentials, "PUT", &path, "application/x-www-form-urlencoded", &format!("value={escaped}"))
    }

    /// Writes a record that is pooled in these datacenters.
    ///
    /// # Errors
    /// If etcd does not take it.
    pub fn record(&self, credentials: Credentials<'_>, record: &str, pooled_in: &[&str]) -> Result<()> {
        for name in crate::fleet::NAMES {
            let value = format!(r#"{{"pooled": {}, "references": [], "ttl": 1}}"#, pooled_in.contains(&name));
            self.put(credentials, record, name, &value)?;
        }
        Ok(())
    }

    /// Deletes a value of a record.
    ///
    /// # Errors
    /// If etcd does not do it.
    pub fn delete(&self, record: &str, datacenter: &str) -> Result<()> {
        self.call(None, "DELETE", &format!("{KEYS}/{record}/{datacenter}"), "text/plain", "")
    }

    /// Lets nobody in without a password: `root` and `poolguard`, who may only read, both with this password.
    ///
    /// # Errors
    /// If etcd does not do it.
    pub fn lock(&self, password: &str) -> Result<()> {
        let root = Some(("root", password));
        let json = |credentials, path: &str, body: serde_json::Value| {
            self.call(credentials, "PUT", path, "application/json", &body.to_string())
        };
        json(None, "/v2/auth/users/root", serde_json::json!({"user": "root", "password": password}))?;
        let all = serde_json::json!({"read": ["/*"], "write": []});
        json(None, "/v2/auth/roles/reader", serde_json::json!({"role": "reader", "permissions": {"kv": all}}))?;
        let user = serde_json::json!({"user": "poolguard", "password": password, "roles": ["reader"]});
        json(None, "/v2/auth/users/poolguard", user)?;
        self.call(None, "PUT", "/v2/auth/enable", "application/json", "")?;
        let nothing = serde_json::json!({"read": ["/*"], "write": ["/*"]});
        json(root, "/v2/auth/roles/guest", serde_json::json!({"role": "guest", "revoke": {"kv": nothing}}))
    }

    /// Asks the first member that runs.
    fn call(
        &self,
        credentials: Credentials<'_>,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<()> {
        let content_type = format!("Content-Type: {content_type}");
        let authorization = credentials
            .map(|(user, password)| format!("Authorization: Basic {}", BASE64.encode(format!("{user}:{password}"))));
        let mut headers = vec![content_type.as_str()];
        headers.extend(authorization.as_deref());
        let answer = request(&self.address(0), method, path, &headers, body)?;
        ensure!((200..300).contains(&answer.status), "{method} {path}: etcd answered {}", answer.body);
        Ok(())
    }
}

fn copy(from: &PathBuf, to: &PathBuf) -> Result<()> {
    crate::command::run(Command::new("cp").arg("-a").arg(from).arg(to))?.success()?;
    Ok(())
}
