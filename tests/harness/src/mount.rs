//! A Secret as the kubelet mounts it: a dated folder, and one symlink `..data` that is swapped. Only the kubelet is played; the Secret
//! is read from the real API server.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;

use crate::command::run;
use crate::datacenter::{Datacenter, Who};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(300);

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// A mounted Secret that follows the real one until it is dropped.
#[derive(Debug)]
pub struct Mount {
    folder: PathBuf,
    count: AtomicU64,
    shown: Mutex<Option<Files>>,
    held: AtomicBool,
    stop: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Mount {
    /// Mounts a Secret, which need not be there yet.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn start(datacenter: &Datacenter, namespace: &str, secret: &str, folder: PathBuf) -> Result<Arc<Self>> {
        fs::create_dir_all(&folder).context("cannot make a folder to mount into")?;
        let this = Arc::new(Self {
            folder,
            count: AtomicU64::new(0),
            shown: Mutex::default(),
            held: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let mut get = datacenter.command(Who::Admin, "kubectl");
        get.args(["-n", namespace, "get", "secret", secret, "-o", "json"]);
        let follower = Arc::clone(&this);
        let thread = std::thread::spawn(move || {
            while !follower.stop.load(Ordering::Relaxed) {
                if !follower.held.load(Ordering::Relaxed) {
                    follower.follow(&mut get);
                }
                std::thread::sleep(PERIOD);
            }
        });
        *this.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(this)
    }

    fn follow(&self, get: &mut Command) {
        let Ok(output) = run(get) else { return };
        let Some(files) = output.ok().then(|| files(&output.stdout)).flatten() else { return };
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shown.as_ref() != Some(&files) && !self.held.load(Ordering::Relaxed) && self.show(files).is_err() {
            // The folder goes with the run.
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Shows these files from now on, whatever the Secret says, until [`Mount::release`].
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn hold(&self, files: Files) -> Result<()> {
        self.held.store(true, Ordering::Relaxed);
        self.show(files)
    }

    /// Follows the Secret again.
    pub fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
    }

    /// What is shown now.
    pub fn shown(&self) -> Files {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    fn show(&self, files: Files) -> Result<()> {
        let dated = format!("..dated_{}", self.count.fetch_add(1, Ordering::Relaxed));
        let folder = self.folder.join(&dated);
        fs::create_dir(&folder).context("cannot make a dated folder")?;
        for (name, content) in &files {
            fs::write(folder.join(name), content).context("cannot write a mounted file")?;
            link(&Path::new("..data").join(name), &self.folder.join(name))?;
        }
        let next = self.folder.join("..data_tmp");
        link(Path::new(&dated), &next)?;
        fs::rename(&next, self.folder.join("..data")).context("cannot swap the mounted folder")?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn link(target: &Path, place: &Path) -> Result<()> {
    match symlink(target, place) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error).context("cannot make a link"),
        _ => Ok(()),
    }
}

/// The files of a Secret in JSON.
fn files(secret: &str) -> Option<Files> {
    let secret: Value = serde_json::from_str(secret).ok()?;
    let data = secret["data"].as_object()?;
    data.iter().map(|(name, value)| Some((name.clone(), BASE64.decode(value.as_str()?).ok()?))).collect()
}
