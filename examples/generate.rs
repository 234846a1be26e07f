//! Writes the generated files: `crds/` and the chart's copy. Run by `cargo xtask generate`.

use kube::CustomResourceExt;

fn main() {
    print!("{}", serde_yaml_ng::to_string(&poolguard::api::ServicePooling::crd()).expect("a CRD is plain data"));
}
