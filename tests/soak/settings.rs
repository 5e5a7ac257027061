//! What `cargo xtask soak` gives.

use clap::Parser;
use std::path::PathBuf;

#[derive(Clone, Debug, Parser)]
#[command(about = "Started by `cargo xtask soak`, which makes the cluster and sets the variables")]
pub struct Settings {
    /// How long processes are disturbed
    #[arg(long)]
    pub minutes: u64,
    #[arg(long)]
    pub seed: u64,
    #[arg(long)]
    pub tenants: u64,
    #[arg(long, env = "ATLAS_KUBECONFIG")]
    pub kubeconfig: PathBuf,
    #[arg(long, env = "ATLAS_AUDIT_LOG")]
    pub audit_log: PathBuf,
    #[arg(long, env = "ATLAS_OPERATOR_NAMESPACE")]
    pub operator_namespace: String,
    /// The address at which pods reach this machine
    #[arg(long, env = "ATLAS_HOST_ADDRESS")]
    pub host_address: String,
    #[arg(long, env = "ATLAS_VOLUME_ROOT")]
    pub volume_root: PathBuf,
    /// The program that signals and revives components of the cluster, and the cluster's name
    #[arg(long, env = "ATLAS_SOAK_XTASK")]
    pub xtask: PathBuf,
    #[arg(long, env = "ATLAS_SOAK_CLUSTER")]
    pub cluster: String,
    #[arg(long, env = "ATLAS_SOAK_OUTPUT")]
    pub output: PathBuf,
}
