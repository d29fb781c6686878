//! What exists, from the bottom up: storage, consensus, watches, the local agent, the service layer,
//! and the faces over it. Started in this order, stopped in the reverse.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use consensus::{Consensus, HistoryBounds, Member, Remote, Start};
use forward::Forward;
use net::Network;
use service::agent::{Agent, AgentOptions, Upstream};
use service::cluster::membership;
use service::watch::Hub;
use service::{Identity, Limits, Service, leader};
use state::NodeInput;
use store::data_dir::DataDir;
use store::log::LogOptions;
use store::state_store::{StateOptions, StateStore};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Advertise, AgentFlags, Config};
use crate::faces::Sockets;
use crate::reload::Reloader;
use crate::shutdown::{Cause, Shutdown};
use crate::telemetry::{LogControl, Metrics};
use crate::watches::Watches;
use crate::{VERSION, banner, cluster, faces};

/// How long requests under way may take to end once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Check definitions and reports under way between the agent and the prober. Neither blocks for
/// long: a registration of a whole machine's checks fits.
const PROBES: usize = 1024;

/// How long a starting agent waits for the first server, and how often it looks.
const SERVERS_WAIT: Duration = Duration::from_secs(5);
const SERVERS_LOOK: Duration = Duration::from_millis(10);

/// The pause before this server tries again to register itself.
const REGISTER_PAUSE: Duration = Duration::from_secs(1);

/// Runs the agent until `shutdown` is requested or its storage fails.
///
/// Every port is opened before anything is written, so that a second agent on one machine leaves
/// no trace; the banner is printed when a leader is elected and every face answers.
pub async fn run(flags: AgentFlags, config: Config, shutdown: Shutdown, metrics: Metrics, log: LogControl) -> anyhow::Result<()> {
    let network = Network::host();
    let mut sockets = Sockets::bind(&config, &network).await?;
    let listening = sockets.listening()?;
    let (storage, mut ids) = open_storage(&config)?;
    let identity = identity(&config, &ids, &sockets)?;
    let limits = limits(&config);

    // Two stages: the faces end first, what they stand on afterwards.
    let core = CancellationToken::new();
    let tasks = TaskTracker::new();
    let history = HistoryBounds { changes_max: limits.history_changes_max, bytes_max: limits.history_bytes_max };
    let hub = Hub::new(history.changes_max, history.bytes_max);
    tasks.spawn(hub.clone().run(core.clone()));

    let member = Member { name: config.node_name.clone(), address: format!("{}:{}", config.advertise_addr, identity.server_port) };
    let start = if config.server && config.bootstrap_expect == 1 { Start::Alone } else { Start::Join };
    let options = consensus::Options {
        id: ids.raft_id,
        member,
        datacenter: config.datacenter.clone(),
        start,
        history,
        network: network.clone(),
        storage,
    };
    let consensus = Consensus::start(options, hub.clone()).await.context("consensus did not start")?;

    let pools = cluster::pools(&config, &identity, ids.cluster.as_deref(), sockets.take_gossip(), &shutdown)?;
    let forward = pools.as_ref().map(|pools| Forward::new(&config.datacenter, network.clone(), pools.lan.clone(), pools.wan.clone()));
    anyhow::ensure!(config.server || forward.is_some(), "an agent that is no server finds its servers by gossip; set `ports.serf_lan`");

    let (requests, probes) = mpsc::channel(PROBES);
    let (reports, results) = mpsc::channel(PROBES);
    let probing = checks::Options { network: network.clone(), ..checks::Options::default() };
    tasks.spawn(checks::Prober::start(probes, reports, probing, core.clone()));
    let agent = Agent::new(agent_options(&config, &identity), upstream(&config, &consensus, &hub, &forward, network.clone()), requests)?;
    let service = Service::new(identity.clone(), limits, consensus.clone(), hub, agent.clone(), pools.clone());

    metrics.observe(service.clone());
    let forward_known = forward.clone();
    // What runs, which a reload changes in part.
    let running = Arc::new(ArcSwap::from_pointee(config.clone()));
    let (serving, live) =
        faces::serve(&running, &service, &consensus, forward, &metrics, &log.feed, (network.clone(), sockets), &shutdown).await?;
    tasks.spawn(metrics.run(core.clone()));
    if let Some(pools) = &pools {
        tasks.spawn(membership::follow_addresses(consensus.clone(), pools.lan.clone(), config.datacenter.clone(), core.clone()));
        cluster::join(&config, pools, &shutdown).await?;
        tasks.spawn(cluster::flood(pools.clone(), config.datacenter.clone(), core.clone()));
        if identity.expect > 1 {
            tasks.spawn(membership::form_first_quorum(consensus.clone(), pools.lan.clone(), identity.clone(), core.clone()));
        }
    }
    let node = node(&config, &identity);
    if config.server {
        let ready = tokio::select! {
            ready = consensus.ready() => ready.context("this server did not become ready"),
            () = shutdown.requested() => Ok(consensus.tables()),
        };
        ready?;
        cluster::belong(&service, pools.as_ref(), ids.directory.as_mut())?;
        tasks.spawn(leader::run(service.clone(), config.bootstrap_expect as usize, core.clone()));
        register_self(&consensus, &identity, &node, &shutdown).await;
        begin_autopilot(&service, &config, &shutdown).await;
    }
    if !config.server {
        await_servers(&forward_known, &config, &shutdown).await;
    }
    // Before the agent's first comparison with the catalog, which removes what it does not know.
    register_configured(&config, &agent).await?;
    tasks.spawn(agent.clone().run(results, core.clone()));
    if let Some(pools) = &pools {
        tasks.spawn(agent.clone().follow_servers(pools.lan.clone(), core.clone()));
        tasks.spawn(service.follow_events(core.clone())?);
    }
    if let Some(forward) = forward_known {
        tasks.spawn(rpc::exec::follow(service.clone(), forward, config.remote_exec, shutdown.token().child_token())?);
    }
    let mut watches = Watches::new(listening.own_grpc(), network, tasks.clone(), shutdown.token().child_token());
    watches.apply(&config.watches).await;
    if let Some(requests) = agent.reload_requests() {
        let reloader = Reloader::new(flags, running, log, live, watches).context("cannot listen for SIGHUP")?;
        tasks.spawn(reloader.run(agent.clone(), requests, core.clone()));
    }
    banner::print(&config, &ids.node_id, &listening);

    let failed = tokio::select! {
        () = shutdown.requested() => false,
        () = consensus.failed() => true,
    };
    if failed {
        tracing::error!("storage has failed: this server stops, so that it acknowledges nothing more");
        shutdown.request(Cause::Failure);
    }
    if let Some(pools) = pools.as_ref().filter(|_| !failed) {
        if cluster::leaves(&config, shutdown.cause()) {
            cluster::leave(&service, &consensus, pools).await;
        } else {
            if let Some(wan) = &pools.wan {
                wan.stop().await;
            }
            pools.lan.stop().await;
        }
    }
    shutdown.departed();
    if !shutdown.drain(DRAIN).await {
        tracing::warn!("some requests did not end within {DRAIN:?} and are broken off");
    }
    serving.ended()?;
    core.cancel();
    tasks.close();
    tasks.wait().await;
    consensus.shutdown().await;
    anyhow::ensure!(failed || shutdown.cause() != Some(Cause::Failure), "the agent could not go on; the lines above say why");
    anyhow::ensure!(!failed, "storage has failed; the lines above say what and where");
    Ok(())
}

/// What this node is known by.
struct Ids {
    node_id: String,
    raft_id: u64,
    /// The cluster that its data are of, if they are of any.
    cluster: Option<String>,
    /// The data directory, kept for this process.
    directory: Option<DataDir>,
}

/// Where the agent finds the catalog.
fn upstream(config: &Config, consensus: &Consensus, hub: &Arc<Hub>, forward: &Option<Forward>, network: Network) -> Upstream {
    match forward {
        Some(forward) if !config.server => {
            let forward = forward.clone();
            Remote::new(network, Arc::new(move || forward.servers())).into()
        }
        _ => (consensus.clone(), hub.clone()).into(),
    }
}

fn open_storage(config: &Config) -> anyhow::Result<(consensus::Storage, Ids)> {
    let new_id = || uuid::Uuid::new_v4().to_string();
    // Zero stands for "no server" in logs of the protocol; the number must fit a signed integer of
    // other languages.
    let raft_id = rand::random_range(1..=u64::from(u32::MAX));
    let Some(path) = &config.data_dir else {
        let node_id = config.node_id.clone().unwrap_or_else(new_id);
        return Ok((consensus::Storage::Memory, Ids { node_id, raft_id, cluster: None, directory: None }));
    };
    let expected = store::data_dir::Identity { node_id: config.node_id.clone(), ..Default::default() };
    let mut directory = DataDir::open(path, &expected)
        .with_context(|| format!("cannot use data directory `{}`; mend what follows, or give another with `-data-dir`", path.display()))?;
    let found = directory.identity().clone();
    let bound = store::data_dir::Identity {
        node_id: Some(found.node_id.unwrap_or_else(new_id)),
        raft_id: Some(found.raft_id.unwrap_or(raft_id)),
        cluster_id: found.cluster_id,
    };
    directory.bind(&bound)?;
    if !config.server {
        let ids = Ids { node_id: bound.node_id.unwrap_or_default(), raft_id, cluster: None, directory: Some(directory) };
        return Ok((consensus::Storage::Memory, ids));
    }
    let (log, recovered) = store::log::open(&directory.log(), LogOptions::default())?;
    if let Some(torn) = &recovered.tail {
        tracing::info!(file = %torn.file.display(), offset = torn.offset, "an unfinished write at the end of the log was dropped; it was never acknowledged");
    }
    let state = StateStore::open(&directory.state(), StateOptions::default())?;
    let arriving = directory.arriving();
    let ids = Ids {
        node_id: bound.node_id.unwrap_or_default(),
        raft_id: bound.raft_id.unwrap_or(raft_id),
        // Without a log it belongs to none, whatever it did before.
        cluster: bound.cluster_id.filter(|_| recovered.last.is_some() || recovered.purged.is_some()),
        directory: Some(directory),
    };
    Ok((consensus::Storage::Durable { log, recovered, state, arriving }, ids))
}

fn identity(config: &Config, ids: &Ids, sockets: &Sockets) -> anyhow::Result<Identity> {
    Ok(Identity {
        node_name: config.node_name.as_str().into(),
        node_id: ids.node_id.as_str().into(),
        datacenter: config.datacenter.as_str().into(),
        address: config.advertise_addr.to_string().into(),
        server: config.server,
        server_port: sockets.server_port()?,
        wan_port: sockets.wan_port()?,
        raft_id: ids.raft_id,
        expect: config.bootstrap_expect,
        version: VERSION,
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        value_bytes_max: config.limits.kv_max_value_size,
        txn_bytes_max: config.limits.txn_max_req_len,
        blocking_wait_default: config.default_query_time,
        blocking_wait_max: config.max_query_time,
        history_changes_max: config.watch_history.changes_max,
        history_bytes_max: config.watch_history.bytes_max,
        check_output_bytes_max: config.check_output_max_size,
        session_ttl_min: config.session_ttl_min,
        ..Limits::default()
    }
}

/// This node as the catalog shows it.
fn node(config: &Config, identity: &Identity) -> NodeInput {
    let Advertise { wan, lan_ipv4, lan_ipv6, wan_ipv4, wan_ipv6 } = config.advertise;
    let tags = [
        ("lan", Some(config.advertise_addr)),
        ("wan", Some(wan)),
        ("lan_ipv4", lan_ipv4),
        ("lan_ipv6", lan_ipv6),
        ("wan_ipv4", wan_ipv4),
        ("wan_ipv6", wan_ipv6),
    ];
    NodeInput {
        id: identity.node_id.clone(),
        name: identity.node_name.clone(),
        address: identity.address.clone(),
        datacenter: identity.datacenter.clone(),
        tagged_addresses: tags.into_iter().filter_map(|(tag, address)| Some((tag.into(), address?.to_string().into()))).collect(),
        meta: config.node_meta.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
    }
}

fn agent_options(config: &Config, identity: &Identity) -> AgentOptions {
    AgentOptions { identity: identity.clone(), node: node(config, identity), ..config.agent_options() }
}

/// Waits for the first server to be found, so that an agent that says it runs can answer. One that finds
/// none runs all the same: its own services are checked, and everything else is refused with the reason.
async fn await_servers(forward: &Option<Forward>, config: &Config, shutdown: &Shutdown) {
    let told = !config.cluster.join.is_empty() || !config.cluster.retry_join.is_empty();
    let found = async {
        while !forward.as_ref().is_some_and(Forward::has_servers) {
            tokio::time::sleep(SERVERS_LOOK).await;
        }
    };
    tokio::select! {
        () = shutdown.requested() => {}
        found = tokio::time::timeout(if told { SERVERS_WAIT } else { Duration::ZERO }, found) => if found.is_err() {
            tracing::warn!("no server is known yet; requests for the catalog are refused until one is");
        }
    }
}

/// Registers this server, again until it works: whoever leads may change meanwhile.
async fn register_self(consensus: &Consensus, identity: &Identity, node: &NodeInput, shutdown: &Shutdown) {
    while !shutdown.is_requested() {
        match leader::reconcile_self(consensus, identity, node).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "this server can't be registered in the catalog yet"),
        }
        tokio::select! {
            () = shutdown.requested() => {}
            () = tokio::time::sleep(REGISTER_PAUSE) => {}
        }
    }
}

/// Has servers looked after as the configuration says, unless somebody has said so already.
async fn begin_autopilot(service: &Service, config: &Config, shutdown: &Shutdown) {
    let Some(wanted) = config.autopilot else { return };
    while !shutdown.token().is_cancelled() {
        match service.begin_autopilot(wanted).await {
            Ok(true) => return tracing::info!("servers are looked after as `autopilot` in the configuration says"),
            Ok(false) => return tracing::debug!("how servers are looked after was set before; `autopilot` changes nothing"),
            Err(error) => tracing::warn!(%error, "what `autopilot` says can't be put into force yet"),
        }
        shutdown.token().run_until_cancelled(tokio::time::sleep(REGISTER_PAUSE)).await;
    }
}

/// Registers what the configuration files define.
async fn register_configured(config: &Config, agent: &Agent) -> anyhow::Result<()> {
    for definition in &config.services {
        let name = definition.service.name.clone();
        agent.register_configured(definition.clone()).await.with_context(|| format!("service `{name}` of the configuration"))?;
    }
    for check in &config.checks {
        let name = check.name.clone();
        agent.register_configured_check(check.clone()).await.with_context(|| format!("check `{name}` of the configuration"))?;
    }
    Ok(())
}
