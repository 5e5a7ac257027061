//! The one wire between a cluster and the machine: a virtual Ethernet pair with a /30 of its own.
//!
//! Inside the cluster's network namespace nothing can clash, so the pods' and services' ranges are the same for each.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::{Cluster, processes};
use crate::{shell, tools};

/// The pods' range. /24 is what one node gets.
pub(super) const PODS: &str = "10.244.0.0/24";
/// The services' range; `pki.go` knows its first address.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The cluster's end of the pair, in its own namespace.
const CLUSTER_LINK: &str = "eth0";

/// Where to look for a free /30: private ranges apart from the pods' and services', the next one only when a wide route
/// (a VPN's, say) covers all of the one before.
const RANGES: [Network; 3] =
    [Network::new([10, 213, 0, 0], 16), Network::new([172, 29, 0, 0], 16), Network::new([192, 168, 213, 0], 24)];

/// An IPv4 network: its first address and its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    first: u32,
    prefix: u32,
}

impl Network {
    const fn new(first: [u8; 4], prefix: u32) -> Self {
        Self { first: u32::from_be_bytes(first), prefix }
    }

    const fn size(self) -> u64 {
        1 << (32 - self.prefix)
    }

    fn overlaps(self, other: Self) -> bool {
        let (a, b) = (u64::from(self.first), u64::from(other.first));
        a < b + other.size() && b < a + self.size()
    }
}

impl FromStr for Network {
    type Err = anyhow::Error;

    /// `10.0.0.0/8`, `10.1.2.3/24` (any address inside) or `10.1.2.3` (a /32).
    fn from_str(text: &str) -> Result<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix: u32 = prefix.parse()?;
        let address = u32::from(address.parse::<Ipv4Addr>()?);
        if prefix > 32 {
            bail!("{text}: no such prefix length");
        }
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        Ok(Self { first: address & mask, prefix })
    }
}

/// Whether an address, as the audit log writes it, is a pod's.
pub(crate) fn is_pod_address(address: &str) -> bool {
    let (Ok(pods), Ok(address)) = (PODS.parse::<Network>(), address.parse::<Network>()) else { return false };
    pods.overlaps(address)
}

/// The /30 of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet(Network);

impl Subnet {
    /// The machine's end.
    pub(super) fn host(self) -> Ipv4Addr {
        Ipv4Addr::from(self.0.first + 1)
    }

    /// The cluster's end: the address of the API server and of the node.
    pub(super) fn cluster(self) -> Ipv4Addr {
        Ipv4Addr::from(self.0.first + 2)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.0.first), self.0.prefix)
    }
}

impl FromStr for Subnet {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let network: Network = text.trim().parse()?;
        if network.prefix != 30 {
            bail!("{text:?} is not a /30");
        }
        Ok(Self(network))
    }
}

/// Chooses a /30 that overlaps nothing taken. `seed` spreads clusters over the range, so that one gets the
/// same address at each start as long as it is free.
fn choose(seed: u32, taken: &[Network]) -> Option<Subnet> {
    RANGES.into_iter().find_map(|range| {
        let slots = 1_u32 << (30 - range.prefix);
        (0..slots)
            .map(|step| Network { first: range.first + (seed.wrapping_add(step) % slots) * 4, prefix: 30 })
            .find(|candidate| !taken.iter().any(|network| network.overlaps(*candidate)))
            .map(Subnet)
    })
}

/// The name of the machine's end of the pair; interface names have at most 15 characters.
pub(super) fn host_link(cluster: &Cluster) -> String {
    format!("atlas{}", cluster.id)
}

/// Connects the cluster's namespace to the machine and sets up what its pods need to leave it.
pub(super) fn create(cluster: &Cluster, holder: u32) -> Result<Subnet> {
    let subnet = connect(cluster, holder)?;
    let inside = |arguments: &[&str]| shell::run(processes::enter(holder).args(arguments));
    inside(&["ip", "link", "set", "lo", "up"])?;
    inside(&["ip", "address", "add", &format!("{}/30", subnet.cluster()), "dev", CLUSTER_LINK])?;
    inside(&["ip", "link", "set", CLUSTER_LINK, "up"])?;
    inside(&["ip", "route", "add", "default", "via", &subnet.host().to_string()])?;
    inside(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    // The machine knows no way to the pods' range, so what leaves the cluster carries the node's address.
    let rules = format!(
        "table ip tenantatlas {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                oifname \"{CLUSTER_LINK}\" ip saddr {PODS} masquerade
            }}
        }}
        "
    );
    shell::feed(processes::enter(holder).args(["nft", "--file", "-"]), rules.as_bytes())?;
    Ok(subnet)
}

/// Makes the pair and gives the machine's end its address.
fn connect(cluster: &Cluster, holder: u32) -> Result<Subnet> {
    let link = host_link(cluster);
    let seed = u32::from_str_radix(&cluster.id, 16)?;
    // Two clusters that start at once must not choose the same range; the lock covers choosing and taking it. It lies where
    // every user's root finds it.
    let _lock = tools::lock("/run/tenantatlas/network.lock".as_ref(), "another cluster's network")?;
    let subnet = choose(seed, &taken()?).with_context(|| {
        format!("no free /30 for the cluster's network in any of {RANGES:?}: `ip route` shows what takes them")
    })?;
    let ip = |arguments: &[&str]| shell::run(shell::command("ip").args(arguments));
    let holder = holder.to_string();
    ip(&["link", "add", &link, "type", "veth", "peer", "name", CLUSTER_LINK, "netns", &holder])?;
    ip(&["address", "add", &format!("{}/30", subnet.host()), "dev", &link])?;
    ip(&["link", "set", &link, "up"])?;
    Ok(subnet)
}

/// The kernel removes the pair with the cluster's namespace; a start that ended before that leaves it behind.
pub(super) fn remove(cluster: &Cluster) -> Result<()> {
    let link = host_link(cluster);
    let is_there = || std::path::Path::new("/sys/class/net").join(&link).exists();
    // The namespace's own clean-up may win in between.
    if is_there() && !shell::succeeds(shell::command("ip").args(["link", "delete", &link])) && is_there() {
        bail!("cannot remove the network interface {link}");
    }
    Ok(())
}

/// Every network that this machine has an address in or a route to, the default route aside.
fn taken() -> Result<Vec<Network>> {
    let addresses = shell::output(shell::command("ip").args(["-4", "-json", "address"]))?;
    let routes = shell::output(shell::command("ip").args(["-4", "-json", "route", "show", "table", "all"]))?;
    parse_taken(&addresses, &routes)
}

fn parse_taken(addresses: &str, routes: &str) -> Result<Vec<Network>> {
    let mut taken = Vec::new();
    let addresses: serde_json::Value = serde_json::from_str(addresses).context("`ip -json address`")?;
    let routes: serde_json::Value = serde_json::from_str(routes).context("`ip -json route`")?;
    for address in addresses.as_array().into_iter().flatten() {
        for info in address["addr_info"].as_array().into_iter().flatten() {
            if let (Some(local), Some(prefix)) = (info["local"].as_str(), info["prefixlen"].as_u64()) {
                taken.push(format!("{local}/{prefix}").parse()?);
            }
        }
    }
    for route in routes.as_array().into_iter().flatten() {
        match route["dst"].as_str() {
            None | Some("default") => {}
            Some(destination) => taken.push(destination.parse()?),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_free_range_is_taken_where_the_seed_points() {
        let subnet = choose(5, &[]).unwrap();
        assert_eq!(subnet.to_string(), "10.213.0.20/30");
        assert_eq!(subnet.host(), Ipv4Addr::new(10, 213, 0, 21));
        assert_eq!(subnet.cluster(), Ipv4Addr::new(10, 213, 0, 22));
        assert_eq!("10.213.0.20/30\n".parse::<Subnet>().unwrap(), subnet);
    }

    #[test]
    fn a_taken_range_is_stepped_over_and_the_end_wraps_around() {
        let last = (1 << 14) - 1;
        assert_eq!(choose(last, &[]).unwrap().to_string(), "10.213.255.252/30");
        let taken = [network("10.213.255.253/30"), network("10.213.0.0/24")];
        assert_eq!(choose(last, &taken).unwrap().to_string(), "10.213.1.0/30");
    }

    #[test]
    fn a_wide_route_moves_the_search_to_the_next_range() {
        let vpn = [network("10.0.0.0/8")];
        assert!(choose(0, &vpn).unwrap().to_string().starts_with("172.29."));
        assert!(choose(0, &[network("0.0.0.0/0")]).is_none());
    }

    #[test]
    fn no_range_touches_the_pods_or_the_services() {
        for range in RANGES {
            assert!(!range.overlaps(network(PODS)) && !range.overlaps(network(SERVICES)));
        }
    }

    #[test]
    fn addresses_and_routes_count_as_taken_and_the_default_route_does_not() {
        let taken = parse_taken(
            r#"[{"ifname":"eth0","addr_info":[{"local":"10.213.0.1","prefixlen":30}]},{}]"#,
            r#"[{"dst":"default"},{"dst":"172.29.0.0/16"},{"type":"local","dst":"127.0.0.1"}]"#,
        )
        .unwrap();
        assert_eq!(taken, [network("10.213.0.0/30"), network("172.29.0.0/16"), network("127.0.0.1/32")]);
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let cluster = Cluster::new("dev").unwrap();
        assert!(host_link(&cluster).len() <= 15);
    }
}
