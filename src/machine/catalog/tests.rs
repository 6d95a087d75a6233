//! What the catalog and its names promise.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::rows::{capability, gib};
use super::*;

fn resolve(name: &str) -> Machine {
    Catalog::builtin()
        .resolve(name)
        .unwrap_or_else(|unknown| panic!("{name}: {unknown}"))
}

fn unknown(name: &str) -> Unknown {
    Catalog::builtin().resolve(name).unwrap_err()
}

#[test]
fn every_file_is_read_without_an_error() {
    let catalog = Catalog::read().unwrap();
    assert!(catalog.iter().count() > 130);
    parse::<Vec<InstanceGroup>>("instances.yaml").unwrap();
    assert!(parse::<Vec<LabelKey>>("labels.yaml").unwrap().len() >= 21);
}

#[test]
fn every_row_is_well_formed_and_says_where_it_comes_from() {
    let catalog = Catalog::read().unwrap();
    let mut ids = BTreeSet::new();
    for entry in catalog.iter() {
        let machine = &entry.machine;
        assert!(ids.insert(machine.id.clone()), "{} twice", machine.id);
        assert_eq!(machine.id, machine.id.to_lowercase());
        assert!(!machine.id.contains([' ', '_']), "{}", machine.id);
        assert!(
            !entry.source.trim().is_empty() && !machine.provenance.is_empty(),
            "{}",
            machine.id
        );
        assert!(!entry.driver_names.is_empty(), "{}", machine.id);
        assert!(
            (2 * GIB..=1024 * GIB).contains(&machine.memory_bytes),
            "{}",
            machine.id
        );
        let marketed = entry.marketed_gb * GIB;
        assert!(machine.memory_bytes <= marketed + marketed / 40, "{}", machine.id);
        assert!(machine.memory_bytes >= marketed - marketed / 8, "{}", machine.id);
        if let Some(runtime) = machine.runtime_memory_bytes {
            assert!(
                runtime <= machine.memory_bytes && runtime > machine.memory_bytes / 100 * 93,
                "{}",
                machine.id
            );
        }
        if entry.vendor == "nvidia" {
            assert!(machine.compute_capability.is_some(), "{}", machine.id);
        }
    }
    for row in &catalog.working_sets {
        let (part, of) = row.share;
        let share = row.measured_mib / (row.memory_gb as f64 * 1024.0);
        assert!((share - part as f64 / of as f64).abs() < 0.001 && !row.source.is_empty());
    }
    for instance in catalog.instances().values() {
        assert!(
            catalog.entry(&instance.accelerator).is_some(),
            "{}",
            instance.name
        );
        assert!(instance.count >= 1 && instance.parts >= 1 && !instance.source.is_empty());
    }
    for label in catalog.label_keys() {
        assert!(!label.source.is_empty() && !label.meaning.is_empty());
    }
}

#[test]
fn every_name_leads_to_its_machine_but_for_the_known_ambiguous_ones() {
    // Names that stand for machines of different memory: people must say which.
    let ambiguous = ["a100", "nvidiaa100", "v100"];
    let catalog = Catalog::builtin();
    for entry in catalog.iter() {
        for name in entry.names() {
            assert_eq!(split_count(name), None, "{name} looks like a count");
            match catalog.resolve(name) {
                Ok(machine) => assert_eq!(machine.memory_bytes, entry.machine.memory_bytes, "{name}"),
                Err(unknown) => assert!(
                    unknown.ambiguous && ambiguous.contains(&key(name).as_str()),
                    "{unknown}"
                ),
            }
        }
        assert_eq!(resolve(&entry.machine.id).id, entry.machine.id);
    }
}

#[test]
fn spellings_of_one_machine_resolve_to_it() {
    for (name, id) in [
        ("H100", "h100-sxm-80gb"),
        ("h100_sxm", "h100-sxm-80gb"),
        ("H100:80GB", "h100-sxm-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA-H100-80GB-HBM3", "h100-sxm-80gb"),
        ("nvidia-h100-mega-80gb", "h100-mega-80gb"),
        ("A100-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100 40GB", "a100-sxm-40gb"),
        ("nvidia-tesla-a100", "a100-sxm-40gb"),
        ("nvidia-tesla-t4", "t4"),
        ("rtx 4090", "rtx-4090"),
        ("RTX4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 D", "rtx-4090-d"),
        ("NVIDIA H20 96GB", "h20-96gb"),
        ("MI300X", "mi300x"),
        ("NVIDIA GB10 (DGX Spark)", "gb10"),
        ("tpu-v5-lite-podslice", "tpu-v5e"),
        ("Apple M2 Ultra 192GB", "m2-ultra-192gb"),
        ("NVIDIA-H100-NVL-MIG-2g.24gb", "h100-nvl-mig-2g.24gb"),
    ] {
        assert_eq!(resolve(name).id, id, "{name}");
    }
}

#[test]
fn memory_is_what_drivers_and_runtimes_report() {
    let h100 = resolve("h100-sxm-80gb");
    assert_eq!(h100.memory_bytes, 81_559 << 20);
    assert_eq!(h100.engine_memory_bytes(), 84_943_715_697);
    assert_eq!(h100.compute_capability, Some((9, 0)));
    assert_eq!(h100.bandwidth, Some(3_350_000_000_000));
    assert!(resolve("p40").provenance.contains("marketed"));
    let spark = resolve("gb10");
    assert!(spark.unified_memory && spark.provenance.starts_with("as the runtime reports it"));
}

#[test]
fn counts_multiply() {
    for (name, count) in [
        ("2x l4", 2),
        ("L4:2", 2),
        ("nvidia-l4 x4", 4),
        ("2 x g5.12xlarge", 8),
        ("H100:80GB x2", 2),
    ] {
        assert_eq!(resolve(name).count, count, "{name}");
    }
    assert_eq!(resolve("2x l4").name(), "2x l4");
    assert!(Catalog::builtin().resolve("0x l4").is_err());
}

#[test]
fn instance_types_are_an_accelerator_and_a_count() {
    for (name, id, count) in [
        ("g5.12xlarge", "a10g", 4),
        ("Standard_NC24ads_A100_v4", "a100-pcie-80gb", 1),
        ("standard_nd96isr_h100_v5", "h100-sxm-80gb", 8),
        ("a2-highgpu-1g", "a100-sxm-40gb", 1),
        ("BM.GPU.MI300X.8", "mi300x", 8),
    ] {
        let machine = resolve(name);
        assert_eq!((machine.id.as_str(), machine.count), (id, count), "{name}");
    }
    let part = resolve("Standard_NV18ads_A10_v5");
    assert_eq!(part.memory_bytes, (23_028 << 20) / 2);
}

#[test]
fn apple_computers_are_a_chip_and_a_size() {
    let mac = resolve("m4-24gb");
    assert_eq!(
        (mac.id.as_str(), mac.memory_bytes, mac.apple_generation),
        ("m4-24gb", 24 << 30, Some(4))
    );
    assert_eq!(mac.kind, MachineKind::AppleSilicon);
    assert!(mac.unified_memory && mac.macos.is_none());
    assert_eq!(resolve("M4 Max 128 GB").id, "m4-max-128gb");
    assert_eq!(resolve("m2-ultra-192gb").apple_generation, Some(2));
    assert_eq!(resolve("2x m5-32gb").count, 2);
    let odd = resolve("m4-20gb");
    assert_eq!(odd.memory_bytes, 20 << 30);
    assert!(odd.provenance.contains("not sold with 20 GB"));
    assert!(!mac.provenance.contains("not sold"));
}

#[test]
fn a_chip_without_a_size_is_ambiguous() {
    let unknown = unknown("m4");
    assert!(unknown.ambiguous);
    assert_eq!(unknown.suggestions, ["m4-16gb", "m4-24gb", "m4-32gb"]);
    assert_eq!(
        unknown.to_string(),
        "`m4` may be any of m4-16gb, m4-24gb, m4-32gb"
    );
}

#[test]
fn the_gpu_limit_of_an_apple_computer_takes_the_smaller_share() {
    let limit = |name| resolve(name).working_set_bytes.unwrap();
    assert_eq!(limit("m1-pro-16gb"), 11_453_246_122);
    assert_eq!(limit("m4-24gb"), 16 << 30);
    assert_eq!(limit("m4-8gb"), (8 << 30) * 2 / 3);
    assert_eq!(limit("m3-pro-36gb"), 24 << 30);
    assert_eq!(limit("m4-max-48gb"), 32 << 30);
    assert_eq!(limit("m4-max-64gb"), 48 << 30);
    assert_eq!(limit("m5-max-128gb"), 96 << 30);
    assert_eq!(limit("m3-ultra-512gb"), 384 << 30);
}

#[test]
fn a_name_of_machines_with_different_memory_is_ambiguous() {
    let unknown = unknown("2x A100");
    assert!(unknown.ambiguous);
    assert!(unknown.suggestions.contains(&"a100-sxm-40gb".to_owned()));
    assert!(unknown.suggestions.contains(&"a100-sxm-80gb".to_owned()));
}

#[test]
fn a_label_key_tells_apart_what_a_bare_name_cannot() {
    let catalog = Catalog::builtin();
    assert_eq!(
        catalog.resolve_label("skypilot", "A100").unwrap().id,
        "a100-sxm-40gb"
    );
    let shared = catalog.resolve_label("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB-SHARED");
    assert_eq!(shared.unwrap().id, "a100-sxm-80gb");
    assert!(
        catalog
            .resolve_label("karpenter.k8s.aws/instance-gpu-name", "a100")
            .unwrap_err()
            .ambiguous
    );
    assert_eq!(catalog.resolve_label("no/such-key", "L4").unwrap().id, "l4");
}

#[test]
fn a_wrong_name_leads_to_the_nearest_right_ones() {
    for (wrong, right) in [
        ("h100-sxm-80g", "h100-sxm-80gb"),
        ("a100-sxm-80", "a100-sxm-80gb"),
        ("rtx-4900", "rtx-4090"),
        ("g5.12xlrge", "g5.12xlarge"),
        ("m4-24bg", "m4-24gb"),
        ("2x l44", "l4"),
    ] {
        let unknown = unknown(wrong);
        assert!(!unknown.ambiguous);
        assert!(unknown.suggestions.iter().any(|name| name == right), "{unknown}");
        assert!(unknown.suggestions.len() <= 3);
    }
    assert!(unknown("completely-else").suggestions.is_empty());
    assert!(unknown("").suggestions.is_empty());
}

#[test]
fn machines_of_a_manifest_come_first() {
    let mut lab = resolve("l4");
    lab.id = "lab-mac".to_owned();
    let extra = [lab];
    let catalog = Catalog::builtin();
    assert_eq!(catalog.resolve_with(&extra, "2x Lab_Mac").unwrap().count, 2);
    let unknown = catalog.resolve_with(&extra, "lab-mca").unwrap_err();
    assert_eq!(unknown.suggestions, ["lab-mac"]);
}

#[test]
fn larger_machines_are_of_the_same_kind_and_ascend() {
    let catalog = Catalog::builtin();
    let names = |id| -> Vec<String> {
        catalog
            .larger(&resolve(id))
            .map(|machine| machine.id.clone())
            .collect()
    };
    let cards = names("a10g");
    assert_eq!(
        cards.first().map(String::as_str),
        Some("a100-sxm-40gb"),
        "{cards:?}"
    );
    assert!(cards.contains(&"h100-sxm-80gb".to_owned()) && !cards.contains(&"mi300x".to_owned()));
    assert!(!cards.contains(&"gb10".to_owned()));
    let macs = names("m4-24gb");
    assert_eq!(macs.first().map(String::as_str), Some("m4-32gb"));
    assert!(macs.iter().all(|id| id.starts_with("m4") || id.starts_with("m5")));
    for id in ["t4", "m1-8gb", "mi100", "tpu-v5e"] {
        let sizes: Vec<u64> = catalog
            .larger(&resolve(id))
            .map(|machine| machine.memory_bytes)
            .collect();
        assert!(sizes.is_sorted() && !sizes.is_empty(), "{id}");
    }
}

#[test]
fn larger_machines_of_the_same_segment_come_first_and_none_of_a_lower_one() {
    let catalog = Catalog::builtin();
    let segment = |id: &str| catalog.entry(id).unwrap().segment();
    assert_eq!(segment("l4"), Segment::Datacenter);
    assert_eq!(segment("rtx-4090"), Segment::Desktop);
    assert_eq!(segment("rtx-a6000"), Segment::Workstation);
    assert_eq!(segment("mi300x"), Segment::Datacenter);
    for id in ["l4", "rtx-3090", "rtx-a5000", "t4"] {
        let larger: Vec<Segment> = catalog
            .larger(&resolve(id))
            .map(|machine| segment(&machine.id))
            .collect();
        assert!(
            larger.is_sorted() && larger.iter().all(|other| *other >= segment(id)),
            "{id}"
        );
    }
}

#[test]
fn every_machine_of_the_reference_is_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/machines.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let catalog = Catalog::builtin();
    for row in text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
    {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        match text("kind").as_str() {
            "gpu" => {
                let machine = resolve(&text("id"));
                if let Some(mib) = row["memory_mib_driver"].as_u64() {
                    assert_eq!(machine.memory_bytes, mib << 20, "{}", machine.id);
                }
                if let Some(low) = text("torch_total_gib")
                    .split('-')
                    .next()
                    .and_then(|low| low.parse().ok())
                {
                    assert_eq!(machine.runtime_memory_bytes, Some(gib(low)), "{}", machine.id);
                }
                assert_eq!(
                    machine.compute_capability,
                    capability(&text("compute_capability")),
                    "{}",
                    machine.id
                );
                for (label, values) in row["labels"].as_object().into_iter().flatten() {
                    for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
                        let entry = catalog.entry(&machine.id).unwrap();
                        let known = entry.names().chain(entry.resources.iter().map(String::as_str));
                        assert!(known.into_iter().any(|name| name == value), "{label}: {value}");
                    }
                }
            }
            "instance" => {
                let machine = resolve(&text("instance_type"));
                let count = row["gpu_count"].as_f64().unwrap();
                if count >= 1.0 {
                    assert_eq!(machine.id, text("gpu"));
                    assert!(
                        (machine.count as f64 - count).abs() < 1e-9,
                        "{}",
                        text("instance_type")
                    );
                } else {
                    let whole = resolve(&text("gpu")).memory_bytes as f64;
                    assert!((machine.memory_bytes as f64 / whole - count).abs() < 0.001);
                }
            }
            "apple" => {
                let chip = text("chip").to_lowercase().replace(' ', "-");
                for size in row["unified_memory_gb"].as_array().unwrap() {
                    assert!(
                        catalog.entry(&format!("{chip}-{size}gb")).is_some(),
                        "{chip} {size}"
                    );
                }
            }
            "apple_working_set" => {
                let measured = row["recommended_max_working_set_mib"].as_f64().unwrap();
                assert!(
                    catalog
                        .working_sets
                        .iter()
                        .any(|row| (row.measured_mib - measured).abs() < 1e-9)
                );
            }
            "label_key" => assert!(catalog.label_keys().iter().any(|label| label.key == text("key"))),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn no_name_panics(name in "\\PC{0,40}") {
        let _ = Catalog::builtin().resolve(&name);
    }
}

#[test]
#[ignore = "prints times, for a release build"]
fn times_of_reading_and_resolving() {
    let start = std::time::Instant::now();
    let catalog = Catalog::read().unwrap();
    println!("read {} rows: {:?}", catalog.entries.len(), start.elapsed());
    let start = std::time::Instant::now();
    catalog.resolve("2x l4").unwrap();
    println!("resolve: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    catalog.resolve("g5.12xlarge").unwrap();
    println!("first instance type: {:?}", start.elapsed());
}
