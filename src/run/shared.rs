//! Engines of one compose file on one accelerator: what each takes is a share of the whole, so the shares add up.
//!
//! In: settled deployments, of which some pin devices by number. Out: `shared_device`, `shared_fraction` and
//! `shared_with` in the surroundings of each that is not alone on its device. Services of different profiles are
//! alternatives and never meet.

use super::deploy::Declaration;
use crate::engine::{Engine, Version, default_of};
use crate::fact::Fact;
use crate::manifest::Deployment;
use crate::manifest::surroundings::{derive, keep};

/// Adds up the memory fractions of engines that pin the same device.
pub(super) fn add_up(items: &mut [Declaration]) {
    let found: Vec<Option<Meeting>> = items
        .iter()
        .enumerate()
        .map(|(at, item)| meeting(at, &item.deployment, items))
        .collect();
    for (item, meeting) in items.iter_mut().zip(found) {
        let Some(meeting) = meeting else { continue };
        let place = item.deployment.surroundings.get("pinned_devices").cloned();
        let around = &mut item.deployment.surroundings;
        if let Some(place) = place {
            keep(around, "shared_device", meeting.device, &place.origin);
        }
        derive(around, "shared_fraction", meeting.fraction, []);
        derive(around, "shared_with", meeting.with, []);
    }
}

struct Meeting {
    device: u16,
    fraction: f64,
    with: String,
}

/// The device of a deployment on which others take most.
fn meeting(at: usize, own: &Deployment, items: &[Declaration]) -> Option<Meeting> {
    let share = fraction(own)?;
    let mut most: Option<Meeting> = None;
    for device in devices(own) {
        let others = items.iter().enumerate().filter(|(other, item)| {
            *other != at && meets(own, &item.deployment) && devices(&item.deployment).any(|one| one == device)
        });
        let shares: Vec<(&str, f64)> = others
            .filter_map(|(_, item)| Some((item.deployment.name.value.as_str(), fraction(&item.deployment)?)))
            .collect();
        let sum = shares.iter().fold(share, |sum, (_, one)| sum + one);
        if !shares.is_empty() && most.as_ref().is_none_or(|most| sum > most.fraction) {
            let names: Vec<&str> = shares.iter().map(|(name, _)| *name).collect();
            most = Some(Meeting {
                device,
                fraction: (sum * 1000.0).round() / 1000.0,
                with: names.join(", "),
            });
        }
    }
    most
}

/// True for engines of one file that may run at the same time.
fn meets(one: &Deployment, other: &Deployment) -> bool {
    let profiles = |deployment: &Deployment| deployment.surroundings.text("profiles").map(str::to_owned);
    let runs = |deployment: &Deployment| deployment.settings.count("replicas") != Some(0);
    one.file == other.file && profiles(one) == profiles(other) && runs(one) && runs(other)
}

fn devices(deployment: &Deployment) -> impl Iterator<Item = u16> {
    let list = deployment.surroundings.text("pinned_devices").unwrap_or("");
    list.split(',').filter_map(|device| device.parse().ok())
}

/// The share of the whole memory that an engine takes before it serves; `None` where it takes a number of bytes, or
/// where its default is computed.
fn fraction(deployment: &Deployment) -> Option<f64> {
    let engine = deployment.sized_as()?;
    if !matches!(engine, Engine::Vllm | Engine::Sglang)
        || deployment.settings.get("kv_cache_memory_bytes").is_some()
    {
        return None;
    }
    if deployment.settings.get("memory_fraction").is_some() {
        return deployment.settings.number("memory_fraction");
    }
    let version = deployment.engine_version.as_ref();
    let version = version.and_then(|text: &Fact<String>| Version::parse(&text.value));
    default_of(engine, "memory_fraction", version)?.parse().ok()
}
