//! The real conftool, from PyPI with pinned hashes, in a virtual environment below `target/`, and its commands against one
//! etcd.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{Output, run};
use crate::place::Place;

/// Seconds that clients may hold an answer: short, so that nobody waits for long.
pub const TTL: u32 = 5;

/// Installs conftool where it is missing and returns the folder of its programs.
///
/// # Errors
/// If Python is missing or the installation fails.
pub fn install(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let pins = crate::root().join("tests/controlplane/conftool");
    let target = crate::root().join("target/conftool");
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    let lock = File::create(target.join("lock")).context("cannot make the lock of conftool's installation")?;
    lock.lock().context("cannot wait for another installation")?;
    let venv = target.join("venv");
    let mut hasher = DefaultHasher::new();
    for file in ["build.txt", "requirements.txt"] {
        fs::read(pins.join(file)).with_context(|| format!("cannot read {file}"))?.hash(&mut hasher);
    }
    venv.hash(&mut hasher);
    let stamp = format!("{:016x}", hasher.finish());
    let stamp_file = target.join("stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|text| text == stamp) {
        return Ok(venv.join("bin"));
    }
    progress("conftool: a virtual environment, about 20 s");
    let _ = fs::remove_dir_all(&venv);
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("Python 3.11 or newer is needed for conftool: put `python3` on the PATH")?
        .success()
        .context("cannot make a virtual environment (on Debian: install python3-venv)")?;
    for file in ["build.txt", "requirements.txt"] {
        run(Command::new(venv.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
                "--no-build-isolation",
                "-r",
            ])
            .arg(pins.join(file)))?
        .success()
        .context("cannot install conftool")?;
    }
    fs::write(stamp_file, stamp).context("cannot write a stamp")?;
    Ok(venv.join("bin"))
}

/// conftool against one etcd.
#[derive(Debug, Clone)]
pub struct Conftool {
    programs: PathBuf,
    folder: PathBuf,
    place: Place,
    /// Where its etcd listens.
    pub endpoint: String,
}

impl Conftool {
    /// Writes its configuration.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn new(programs: PathBuf, folder: &Path, port: u16) -> Result<Self> {
        Self::at(programs, folder, port, Place::Loopback)
    }

    /// The same anywhere.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn at(programs: PathBuf, folder: &Path, port: u16, place: Place) -> Result<Self> {
        let folder = folder.to_path_buf();
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let write = |name: &str, text: String| fs::write(folder.join(name), text).context("cannot configure conftool");
        write(
            "config.yaml",
            format!(
                "driver: etcd\nnamespace: /conftool\napi_version: v1\ndriver_options: {{etcd_config_file: {}}}\n",
                folder.join("etcdrc").display()
            ),
        )?;
        write("etcdrc", format!("host: {}\nport: {port}\nprotocol: http\n", place.address()))?;
        write(
            "schema.yaml",
            "discovery:\n  path: discovery\n  tags: [dnsdisc]\n  schema:\n    pooled: {type: bool, default: false}\n    \
             references: {type: list, default: []}\n    ttl: {type: int, default: 300}\n"
                .to_owned(),
        )?;
        let endpoint = format!("http://{}:{port}", place.address());
        Ok(Self { programs, folder, place, endpoint })
    }

    /// The same conftool, which reaches its etcd at another port.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn through(&self, port: u16) -> Result<Self> {
        Self::at(self.programs.clone(), &self.folder.join(format!("through-{port}")), port, self.place.clone())
    }

    /// Makes records, for both datacenters, depooled.
    ///
    /// # Errors
    /// If `conftool-sync` fails.
    pub fn sync(&self, records: &[&str], datacenters: &[&str]) -> Result<()> {
        let data = self.folder.join("data/discovery");
        fs::create_dir_all(&data).context("cannot write conftool's data")?;
        let list: String = records.iter().map(|record| format!("{record}: [{}]\n", datacenters.join(", "))).collect();
        fs::write(data.join("services.yaml"), list).context("cannot write conftool's data")?;
        run(self.command("conftool-sync").args(["--directory"]).arg(self.folder.join("data")))?.success()?;
        Ok(())
    }

    /// `confctl --object-type discovery select 'dnsdisc=RECORD,name=DATACENTER' ACTION`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn confctl(&self, record: &str, datacenter: &str, action: &str) -> Result<Output> {
        run(self
            .command("confctl")
            .args(["--object-type", "discovery", "select"])
            .arg(format!("dnsdisc={record},name={datacenter}"))
            .arg(action))
    }

    /// Sets `pooled`.
    ///
    /// # Errors
    /// If `confctl` fails.
    pub fn pool(&self, record: &str, datacenter: &str, pooled: bool) -> Result<()> {
        self.confctl(record, datacenter, &format!("set/pooled={pooled}"))?.success()?;
        Ok(())
    }

    /// Makes one record for one test, as if it had always been there: pooled in the datacenters of `pooled_in`.
    ///
    /// # Errors
    /// If etcd does not take it.
    pub fn record(&self, record: &str, pooled_in: &[&str], ttl: u32) -> Result<()> {
        for name in crate::fleet::NAMES {
            let pooled = pooled_in.contains(&name);
            self.raw(record, name, &format!(r#"{{"pooled": {pooled}, "references": [], "ttl": {ttl}}}"#))?;
        }
        Ok(())
    }

    /// Writes any value behind conftool's back, as a broken client would.
    ///
    /// # Errors
    /// If etcd does not take it.
    pub fn raw(&self, record: &str, datacenter: &str, value: &str) -> Result<()> {
        let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.request("PUT", record, datacenter, &format!("value={escaped}"))
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// If etcd does not do it.
    pub fn delete(&self, record: &str, datacenter: &str) -> Result<()> {
        self.request("DELETE", record, datacenter, "")
    }

    fn request(&self, method: &str, record: &str, datacenter: &str, body: &str) -> Result<()> {
        let address = self.endpoint.trim_start_matches("http://");
        let path = format!("/v2/keys/conftool/v1/discovery/{record}/{datacenter}");
        let form = "Content-Type: application/x-www-form-urlencoded";
        let answer = crate::http::request(address, method, &path, &[form], body)?;
        ensure!((200..300).contains(&answer.status), "etcd answered {}", answer.body);
        Ok(())
    }

    /// How to call `confctl` from a shell.
    pub fn shell(&self) -> String {
        format!(
            "{} --config {} --schema {} --object-type discovery",
            self.programs.join("confctl").display(),
            self.folder.join("config.yaml").display(),
            self.folder.join("schema.yaml").display()
        )
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.place.enter(Command::new(self.programs.join(program)));
        command
            .env("HOME", &self.folder)
            .env_remove("HTTP_PROXY")
            .env_remove("HTTPS_PROXY")
            .arg("--config")
            .arg(self.folder.join("config.yaml"))
            .arg("--schema")
            .arg(self.folder.join("schema.yaml"));
        command
    }
}
