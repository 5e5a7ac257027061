//! What an object holds of resources that are allocated once: node ports, an address, a share of a
//! quota.
//!
//! A recreation is tried while the object that it replaces still exists and holds these resources.
//! A refusal caused by them alone says nothing against the recreation: the deletion frees them.

use serde_json::Value;
use std::collections::BTreeMap;

/// Returns the wanted object without the node ports and the addresses that the live one holds, so
/// that its creation can be tried while the live object exists.
#[must_use]
pub fn beside(wanted: &Value, live: &Value) -> Value {
    let mut probe = wanted.clone();
    if wanted["kind"] != "Service" || wanted["apiVersion"] != "v1" {
        return probe;
    }
    let held = ports(live);
    let Some(spec) = probe.get_mut("spec").and_then(Value::as_object_mut) else { return probe };
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut().filter(|port| port.get("nodePort").is_some_and(|of| held.contains(of)))
        {
            port.remove("nodePort");
        }
    }
    if spec.get("healthCheckNodePort").is_some_and(|port| held.contains(port)) {
        spec.remove("healthCheckNodePort");
    }
    let addresses = addresses(live);
    if spec.get("clusterIP").is_some_and(|address| address != "None" && addresses.contains(address)) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    probe
}

fn ports(service: &Value) -> Vec<Value> {
    let of_ports = service["spec"]["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    of_ports.chain([&service["spec"]["healthCheckNodePort"]]).filter(|port| port.is_number()).cloned().collect()
}

fn addresses(service: &Value) -> Vec<Value> {
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    all.chain([&service["spec"]["clusterIP"]]).filter(|address| address.is_string()).cloned().collect()
}

/// Whether a quota refuses an object only because of the share that the live object holds.
///
/// Parsed from the API server's message,
/// `exceeded quota: small, requested: a=1,b=2, used: a=3,b=4, limited: a=3,b=5`, which names what
/// is exceeded and nothing else.
#[must_use]
pub fn fits_in_place(message: &str, live: &Value) -> bool {
    let Some((_, rest)) = message.split_once("requested: ") else { return false };
    let Some((requested, rest)) = rest.split_once(", used: ") else { return false };
    let Some((used, limited)) = rest.split_once(", limited: ") else { return false };
    let (requested, used, limited) = (amounts(requested), amounts(used), amounts(limited));
    !requested.is_empty()
        && requested.iter().all(|(resource, requested)| {
            let fits = || Some(used.get(resource)? - share(live, resource)? + requested <= *limited.get(resource)?);
            fits().unwrap_or(false)
        })
}

fn amounts(list: &str) -> BTreeMap<&str, i128> {
    let parts = list.split(',').filter_map(|part| part.trim().rsplit_once('='));
    parts.filter_map(|(resource, quantity)| Some((resource, nano(quantity)?))).collect()
}

/// The share of a quota that a live object uses, in billionths, or `None` if the share is unknown.
fn share(live: &Value, resource: &str) -> Option<i128> {
    let of_class = resource.split_once(".storageclass.storage.k8s.io/");
    if of_class.is_some_and(|(class, _)| live["spec"]["storageClassName"] != class) {
        return Some(0);
    }
    let resource = of_class.map_or(resource, |(_, resource)| resource);
    match (live["kind"].as_str()?, resource) {
        ("PersistentVolumeClaim", "requests.storage") => quantity(&live["spec"]["resources"]["requests"]["storage"]),
        ("Service", "services.nodeports") => {
            let ports = live["spec"]["ports"].as_array().into_iter().flatten();
            one(ports.filter(|port| port["nodePort"].is_number()).count())
        }
        ("Service", "services.loadbalancers") => one(usize::from(live["spec"]["type"] == "LoadBalancer")),
        ("Pod", "pods") => one(1),
        ("Pod", resource) if !resource.starts_with("count/") => of_pod(&live["spec"], resource),
        _ => one(1),
    }
}

fn one(count: usize) -> Option<i128> {
    i128::try_from(count).ok()?.checked_mul(ONE)
}

/// The requests or limits of a Pod: the sum over its containers, or the amount of an init container
/// that needs more.
fn of_pod(spec: &Value, resource: &str) -> Option<i128> {
    let (side, resource) = match resource.split_once('.') {
        Some((side @ ("requests" | "limits"), resource)) => (side, resource),
        _ => ("requests", resource),
    };
    let of = |container: &Value| match &container["resources"][side][resource] {
        Value::Null => Some(0),
        amount => quantity(amount),
    };
    let each = |list: &str| -> Option<Vec<i128>> { spec[list].as_array().into_iter().flatten().map(of).collect() };
    let together: i128 = each("containers")?.into_iter().sum();
    Some(each("initContainers")?.into_iter().fold(together, i128::max))
}

fn quantity(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => nano(text),
        Value::Number(number) => nano(&number.to_string()),
        _ => None,
    }
}

/// One, in billionths.
const ONE: i128 = 1_000_000_000;

/// Parses a Kubernetes quantity into billionths, rounded up as the API server does.
fn nano(text: &str) -> Option<i128> {
    let end = text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (ONE, 1),
        "n" => (1, 1),
        "u" => (1_000, 1),
        "m" => (1_000_000, 1),
        "k" => (ONE * 1_000, 1),
        "M" => (ONE * 1_000_000, 1),
        "G" => (ONE * 1_000_000_000, 1),
        "T" => (ONE * 1_000_000_000_000, 1),
        "P" => (ONE * 1_000_000_000_000_000, 1),
        "E" => (ONE * 1_000_000_000_000_000_000, 1),
        "Ki" => (ONE << 10, 1),
        "Mi" => (ONE << 20, 1),
        "Gi" => (ONE << 30, 1),
        "Ti" => (ONE << 40, 1),
        "Pi" => (ONE << 50, 1),
        "Ei" => (ONE << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let scale = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (ONE, scale) } else { (ONE.checked_mul(scale)?, 1) }
        }
    };
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (above, below) = (digits.checked_mul(numerator)?, places.checked_mul(denominator)?);
    Some(above.div_euclid(below) + i128::from(above.rem_euclid(below) != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_read_in_every_notation() {
        for (text, expected) in [
            ("1", Some(ONE)),
            ("500m", Some(ONE / 2)),
            ("0.5", Some(ONE / 2)),
            ("1.5Gi", Some(ONE * 1536 * 1024 * 1024)),
            ("2k", Some(ONE * 2000)),
            ("1e3", Some(ONE * 1000)),
            ("12E", Some(ONE * 12_000_000_000_000_000_000)),
            ("1e-3", Some(ONE / 1000)),
            ("100n", Some(100)),
            ("-1", Some(-ONE)),
            ("", None),
            ("many", None),
            ("1e999", None),
        ] {
            assert_eq!(nano(text), expected, "{text}");
        }
    }

    #[test]
    fn a_quota_that_is_full_has_room_for_what_takes_the_place_of_something_and_one_that_is_overdrawn_has_not() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret"});
        let message = |used: u8, limited: u8| {
            format!(
                "secrets \"a\" is forbidden: exceeded quota: full, requested: count/secrets=1,secrets=1, used: count/secrets={used},secrets={used}, limited: count/secrets={limited},secrets={limited}"
            )
        };
        assert!(fits_in_place(&message(10, 10), &secret));
        assert!(!fits_in_place(&message(11, 10), &secret), "the quota was lowered since");
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        let storage = |resource: &str, requested: &str, used: &str| {
            format!(
                "exceeded quota: q, requested: {resource}={requested}, used: {resource}={used}, limited: {resource}=3Gi"
            )
        };
        assert!(fits_in_place(&storage("requests.storage", "2Gi", "2Gi"), &claim));
        assert!(!fits_in_place(&storage("requests.storage", "3Gi", "2Gi"), &claim));
        assert!(fits_in_place(&storage("fast.storageclass.storage.k8s.io/requests.storage", "1Gi", "3Gi"), &claim));
        assert!(!fits_in_place(&storage("slow.storageclass.storage.k8s.io/requests.storage", "1Gi", "3Gi"), &claim));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "containers": [{"resources": {"limits": {"cpu": "250m"}}}, {"resources": {"limits": {"cpu": 1}}}],
            "initContainers": [{"resources": {"limits": {"cpu": "1"}}}]}});
        let cpu = |used: &str| {
            format!("exceeded quota: q, requested: limits.cpu=1, used: limits.cpu={used}, limited: limits.cpu=2")
        };
        assert!(fits_in_place(&cpu("2250m"), &pod));
        assert!(!fits_in_place(&cpu("2251m"), &pod));
        for words in
            ["exceeded quota: q", "exceeded quota: q, requested: , used: , limited: ", "status unknown for quota: q"]
        {
            assert!(!fits_in_place(words, &secret), "{words}");
        }
    }

    #[test]
    fn a_service_is_tried_without_what_the_live_one_holds_and_with_all_else() {
        let live = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "healthCheckNodePort": 30009, "ports": [{"name": "a", "nodePort": 30001}, {"name": "b", "nodePort": 30002}]}});
        let wanted = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "healthCheckNodePort": 30009, "ports": [{"name": "b", "nodePort": 30001}, {"name": "c", "nodePort": 30003}]}});
        assert_eq!(
            beside(&wanted, &live),
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"name": "b"}, {"name": "c", "nodePort": 30003}]}})
        );
        let headless =
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        assert_eq!(beside(&headless, &headless), headless);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"clusterIP": "10.0.0.1"}});
        assert_eq!(beside(&map, &live), map);
    }

    #[test]
    fn each_suffix_of_a_quantity_is_its_power_of_ten_or_of_two_and_what_is_left_over_counts_up() {
        let (ten, two) = (|power| ONE * 10_i128.pow(power), |power| ONE * 2_i128.pow(power));
        for (text, expected) in [
            ("3n", 3),
            ("3u", 3_000),
            ("3m", 3_000_000),
            ("3k", 3 * ten(3)),
            ("3M", 3 * ten(6)),
            ("3G", 3 * ten(9)),
            ("3T", 3 * ten(12)),
            ("3P", 3 * ten(15)),
            ("3E", 3 * ten(18)),
            ("3Ki", 3 * two(10)),
            ("3Mi", 3 * two(20)),
            ("3Gi", 3 * two(30)),
            ("3Ti", 3 * two(40)),
            ("3Pi", 3 * two(50)),
            ("3Ei", 3 * two(60)),
            ("3E2", 3 * ten(2)),
            ("1.5n", 2),
            ("-1.5n", -1),
        ] {
            assert_eq!(nano(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_share_of_a_live_object_is_what_it_asks_for_of_each_resource() {
        let fits = |resource: &str, share: &str, live: &Value| {
            let exactly = |more: &str| {
                let words = format!("requested: {resource}={share}{more}, used: {resource}=7G, limited: {resource}=7G");
                fits_in_place(&words, live)
            };
            exactly("") && !exactly("1")
        };
        let service = |of: &str| {
            json!({"apiVersion": "v1", "kind": "Service",
                "spec": {"type": of, "ports": [{"nodePort": 30001}, {"port": 80}, {"nodePort": 30002}]}})
        };
        assert!(fits("services.nodeports", "2", &service("NodePort")));
        assert!(fits("services.loadbalancers", "1", &service("LoadBalancer")));
        assert!(!fits("services.loadbalancers", "1", &service("NodePort")));
        assert!(fits("services", "1", &service("NodePort")));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "containers": [{"resources": {"requests": {"cpu": 2, "memory": "3"}, "limits": {"cpu": 4}}}, {"name": "asks for nothing"}],
            "initContainers": [{"resources": {"requests": {"cpu": 1, "memory": "5"}}}]}});
        assert!(fits("pods", "1", &pod) && fits("count/pods", "1", &pod));
        assert!(fits("cpu", "2", &pod) && fits("requests.cpu", "2", &pod) && fits("limits.cpu", "4", &pod));
        assert!(fits("requests.memory", "5", &pod), "an init container needs more than all containers");
        let unreadable = json!({"kind": "Pod", "spec": {"containers": [{"resources": {"requests": {"cpu": true}}}]}});
        assert!(!fits_in_place("requested: cpu=0, used: cpu=1, limited: cpu=2", &unreadable), "its share is unknown");
        assert!(!fits_in_place("requested: a=1, used: b=1, limited: a=2", &pod), "what is used is not said");
    }

    #[test]
    fn a_service_keeps_what_the_live_one_does_not_hold_and_one_of_another_group_keeps_all() {
        let service = |version: &str, address: &str, port: u16| {
            json!({"apiVersion": version, "kind": "Service", "spec": {"clusterIP": address, "clusterIPs": [address],
                "healthCheckNodePort": port, "ports": [{"nodePort": port}]}})
        };
        let (live, other) = (service("v1", "10.0.0.1", 30001), service("v1", "10.0.0.2", 30002));
        assert_eq!(beside(&other, &live), other);
        let of_knative = service("serving.knative.dev/v1", "10.0.0.1", 30001);
        assert_eq!(beside(&of_knative, &live), of_knative);
        let second = json!({"spec": {"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"]}});
        assert!(beside(&live, &second)["spec"].get("clusterIP").is_none(), "each of its addresses is held");
    }
}
