//! What makes an enclosure a node: containerd with runc and a bridge for pods, the kubelet, and the proxy of Services.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::enclosure::{ADDRESS, Enclosure};
use crate::datacenter::Datacenter;

/// The node's name.
pub const NAME: &str = "node-a";
/// The addresses of pods.
const PODS: &str = "10.244.0.0/24";
/// What holds a pod's namespaces: it does nothing.
pub const PAUSE: &str = "docker.io/library/pause:1";

/// containerd's configuration.
///
/// # Errors
/// If it cannot be written.
pub fn containerd(enclosure: &Enclosure) -> Result<()> {
    let folder = &enclosure.folder;
    let network = json!({
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [{
            "type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": folder.join("addresses"), "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    write(&folder.join("network/pods.conflist"), &network.to_string())?;
    // Nobody here may raise the priority of a process against the kernel's out-of-memory killer.
    let config = format!(
        "version = 2\nroot = \"{0}/containerd\"\nstate = \"/run/containerd\"\n\
         [grpc]\naddress = \"{SOCKET}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{0}/network\"\n",
        folder.display()
    );
    write(&folder.join("containerd.toml"), &config)
}

/// Where containerd listens.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// The kubelet's configuration.
///
/// # Errors
/// If it cannot be written.
pub fn kubelet(enclosure: &Enclosure, datacenter: &Datacenter) -> Result<()> {
    let folder = &enclosure.folder;
    write(&folder.join("resolv.conf"), &format!("nameserver {ADDRESS}\n"))?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": datacenter.authority()},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs", "cgroupRoot": enclosure.cgroup(), "enforceNodeAllocatable": [],
        "failCgroupV1": false, "failSwapOn": false,
        "localStorageCapacityIsolation": false, "evictionHard": {"nodefs.available": "0%"},
        "clusterDNS": [ADDRESS], "clusterDomain": "cluster.local", "resolvConf": folder.join("resolv.conf"),
        // Changed Secrets and ConfigMaps are seen at once.
        "syncFrequency": "2s", "configMapAndSecretChangeDetectionStrategy": "Watch",
    });
    write(&folder.join("kubelet.json"), &config.to_string())
}

/// The configuration of the proxy of Services.
///
/// # Errors
/// If it cannot be written.
pub fn proxy(enclosure: &Enclosure, datacenter: &Datacenter) -> Result<()> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "clusterCIDR": PODS, "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": datacenter.folder.join("proxy.kubeconfig")},
        // How many connections the kernel follows is not ours to say.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    write(&enclosure.folder.join("proxy.json"), &config.to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
