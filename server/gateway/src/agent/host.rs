//! `/v1/agent/host`: the machine, in the shapes that tools know from gopsutil.

use service::host::{Host, Processor};

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::Ask;
use crate::status::Outcome;

/// `GET /v1/agent/host`
pub(crate) fn host(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let host = gateway.service.host(&ask.caller)?;
    let mut json = Json::new();
    json.object(|json| {
        json.name("Memory").object(|json| memory(json, &host));
        json.name("CPU").array(|json| host.processors.iter().for_each(|one| _ = json.object(|json| processor(json, one))));
        json.name("Host").object(|json| system(json, &host));
        json.name("Disk").object(|json| disk(json, &host));
        json.name("CollectionTime").number(host.collected_ns);
        json.name("Errors").array(|json| host.errors.iter().for_each(|error| _ = json.text(error)));
    });
    Ok(gateway.json(ask, json))
}

fn memory(json: &mut Json, host: &Host) {
    let memory = &host.memory;
    for (name, bytes) in [
        ("total", memory.total),
        ("available", memory.available),
        ("used", memory.used()),
        ("free", memory.free),
        ("active", memory.active),
        ("inactive", memory.inactive),
        ("buffers", memory.buffers),
        ("cached", memory.cached),
        ("shared", memory.shared),
        ("swapTotal", memory.swap_total),
        ("swapFree", memory.swap_free),
    ] {
        json.name(name).number(bytes);
    }
    json.name("usedPercent").float(percent(memory.used(), memory.total));
}

fn processor(json: &mut Json, one: &Processor) {
    json.name("cpu").number(one.number);
    json.name("vendorId").text(&one.vendor);
    json.name("modelName").text(&one.model);
    json.name("mhz").float(one.mhz);
    json.name("physicalId").text(&one.package);
    json.name("coreId").text(&one.core);
    json.name("cores").number(1);
}

fn system(json: &mut Json, host: &Host) {
    let system = &host.system;
    json.name("hostname").text(&system.host_name);
    json.name("uptime").number(system.uptime_s);
    json.name("bootTime").number(system.boot_time_s);
    json.name("procs").number(system.processes);
    json.name("os").text(std::env::consts::OS);
    json.name("platform").text(&system.platform);
    json.name("platformFamily").text(&system.platform_family);
    json.name("platformVersion").text(&system.platform_version);
    json.name("kernelVersion").text(&system.kernel_version);
    json.name("kernelArch").text(&system.architecture);
    json.name("virtualizationSystem").text("");
    json.name("virtualizationRole").text("");
}

fn disk(json: &mut Json, host: &Host) {
    let disk = &host.disk;
    json.name("path").text(&disk.path);
    json.name("fstype").text("");
    json.name("total").number(disk.total);
    json.name("free").number(disk.free);
    json.name("used").number(disk.used);
    json.name("usedPercent").float(percent(disk.used, disk.used + disk.free));
    json.name("inodesTotal").number(disk.inodes_total);
    json.name("inodesUsed").number(disk.inodes_total.saturating_sub(disk.inodes_free));
    json.name("inodesFree").number(disk.inodes_free);
    json.name("inodesUsedPercent").float(percent(disk.inodes_total.saturating_sub(disk.inodes_free), disk.inodes_total));
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
