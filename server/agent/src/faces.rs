//! The three faces: their sockets, opened before anything else, and their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use arc_swap::ArcSwap;
use consensus::Consensus;
use dns::{DnsOptions, Soa};
use forward::Forward;
use gateway::{GatewayOptions, LiveOptions};
use net::{Listener, Network};
use parking_lot::Mutex;
use rpc::RpcOptions;
use service::Service;
use service::monitor::Feed;
use tonic::service::AxumBody;

use crate::banner::Listening;
use crate::config::Config;
use crate::shutdown::{Cause, Shutdown};
use crate::start::{Face, bind_error, bind_tcp};
use crate::telemetry::Metrics;

/// Most connections to the servers' own port: ten thousand agents fit, of which each has one to the server that it
/// keeps, and for a while one to that which it kept before.
const SERVER_PORT_CONNECTIONS: usize = 16_384;

/// Room beyond them for other servers: a few connections from each, of every datacenter.
const SERVER_PORT_RESERVE: usize = 512;

/// Sockets that are open and not yet served.
pub(crate) struct Sockets {
    http: Vec<Box<dyn Listener>>,
    grpc: Vec<Box<dyn Listener>>,
    dns: Vec<dns::Sockets>,
    /// The servers' own port.
    server: Option<Box<dyn Listener>>,
    lan: Option<gossip::Sockets>,
    wan: Option<gossip::Sockets>,
}

impl Sockets {
    /// Opens every port that the configuration names, or says which one can't be had and why.
    pub(crate) async fn bind(config: &Config, network: &Network) -> anyhow::Result<Self> {
        let mut sockets = Sockets { http: Vec::new(), grpc: Vec::new(), dns: Vec::new(), server: None, lan: None, wan: None };
        for address in &config.listen.http {
            sockets.http.push(bind_tcp(network, Face::Http, *address).await?);
        }
        for address in &config.listen.grpc {
            sockets.grpc.push(bind_tcp(network, Face::Grpc, *address).await?);
        }
        let per_address = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        for address in &config.listen.dns {
            sockets.dns.push(dns::bind(network, *address, per_address).await.map_err(|error| bind_error(Face::Dns, *address, error))?);
        }
        if let Some(address) = config.listen.serf_lan {
            sockets.lan = Some(gossip_sockets(Face::SerfLan, network, address).await?);
        }
        if config.server {
            if let Some(address) = config.listen.server {
                sockets.server = Some(bind_tcp(network, Face::Server, address).await?);
            }
            if let Some(address) = config.listen.serf_wan {
                sockets.wan = Some(gossip_sockets(Face::SerfWan, network, address).await?);
            }
        }
        Ok(sockets)
    }

    /// The port that other servers reach this one at; 0 when it is off.
    pub(crate) fn server_port(&self) -> anyhow::Result<u16> {
        Ok(self.server.as_ref().map(|listener| listener.local_address()).transpose()?.map_or(0, |address| address.port()))
    }

    /// The port of the pool between datacenters; 0 when it is off.
    pub(crate) fn wan_port(&self) -> anyhow::Result<u16> {
        Ok(self.wan.as_ref().map(gossip::Sockets::local_address).transpose()?.map_or(0, |address| address.port()))
    }

    /// Takes the sockets of gossip: LAN, WAN.
    pub(crate) fn take_gossip(&mut self) -> (Option<gossip::Sockets>, Option<gossip::Sockets>) {
        (self.lan.take(), self.wan.take())
    }

    /// Where they are; the system has chosen the ports that were given as 0.
    pub(crate) fn listening(&self) -> anyhow::Result<Listening> {
        let addresses =
            |listeners: &[Box<dyn Listener>]| listeners.iter().map(|listener| listener.local_address()).collect::<Result<Vec<_>, _>>();
        Ok(Listening {
            http: addresses(&self.http)?,
            grpc: addresses(&self.grpc)?,
            dns: self.dns.iter().filter_map(dns::Sockets::local_addr).collect(),
            server: self.server.as_ref().map(|listener| listener.local_address()).transpose()?,
            gossip: self.lan.as_ref().map(gossip::Sockets::local_address).transpose()?,
        })
    }
}

async fn gossip_sockets(face: Face, network: &Network, address: std::net::SocketAddr) -> anyhow::Result<gossip::Sockets> {
    gossip::Sockets::bind(network, address).await.map_err(|error| match error {
        gossip::Error::Socket { address, source } => bind_error(face, address, source),
        other => other.into(),
    })
}

/// The faces at work. If one of them fails the whole agent stops, and this says why.
#[derive(Clone, Default)]
pub(crate) struct Serving {
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Serving {
    /// The failure of a face, if one has failed.
    pub(crate) fn ended(&self) -> anyhow::Result<()> {
        self.failure.lock().take().map_or(Ok(()), Err)
    }

    /// Runs a face until it ends; a face that ends by itself stops the agent.
    fn run(&self, face: Face, shutdown: &Shutdown, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let (serving, stop) = (self.clone(), shutdown.clone());
        shutdown.spawn(async move {
            if let Err(error) = task.await.with_context(|| format!("the {face} face has failed")) {
                tracing::error!("{error:#}");
                serving.failure.lock().get_or_insert(error);
                stop.request(Cause::Failure);
            }
        });
    }
}

/// What of the faces can change while they answer.
#[derive(Clone)]
pub(crate) struct Live {
    dns: dns::Answerer,
    http: Arc<ArcSwap<LiveOptions>>,
    connections_per_client_max: Arc<AtomicUsize>,
}

/// Settings of the faces that were found to make sense.
pub(crate) struct Prepared {
    dns: DnsOptions,
    http: LiveOptions,
}

impl Live {
    fn new(config: &Config, service: &Service, forward: Option<Forward>, network: Network) -> anyhow::Result<Self> {
        Ok(Live {
            dns: dns::Answerer::new(service.clone(), dns_options(config)?, forward, network),
            http: Arc::new(ArcSwap::from_pointee(live_options(config)?)),
            connections_per_client_max: Arc::new(AtomicUsize::new(config.limits.http_max_conns_per_client)),
        })
    }

    /// Works out what is to be in force; changes nothing.
    pub(crate) fn prepare(&self, config: &Config) -> anyhow::Result<Prepared> {
        Ok(Prepared { dns: dns_options(config)?, http: live_options(config)? })
    }

    /// Puts it in force, from the next request on.
    pub(crate) fn apply(&self, prepared: Prepared, config: &Config) {
        self.dns.set_options(prepared.dns);
        self.http.store(Arc::new(prepared.http));
        self.connections_per_client_max.store(config.limits.http_max_conns_per_client, Ordering::Relaxed);
    }
}

/// Starts the faces.
#[expect(clippy::too_many_arguments, reason = "it hands each face its part of what exists")]
pub(crate) async fn serve(
    running: &Arc<ArcSwap<Config>>,
    service: &Service,
    consensus: &Consensus,
    forward: Option<Forward>,
    metrics: &Metrics,
    feed: &Feed,
    (network, sockets): (Network, Sockets),
    shutdown: &Shutdown,
) -> anyhow::Result<(Serving, Live)> {
    let serving = Serving::default();
    let config = &running.load_full();
    let live = Live::new(config, service, forward.clone(), network)?;
    let listening = sockets.listening()?;
    let addresses = addresses(&listening);
    let shown = running.clone();
    let options = RpcOptions {
        addresses,
        forward: forward.clone(),
        monitor: Some(feed.clone()),
        metrics: Some(metrics.source()),
        config: Some(Arc::new(move || shown.load().keys())),
        ..RpcOptions::new(service.limits())
    };
    for listener in sockets.grpc {
        let routes = match &forward {
            Some(forward) if !config.server => rpc::carrying_routes(service.clone(), &options, forward.clone(), shutdown.token()).await?,
            _ => rpc::routes(service.clone(), &options, shutdown.token()).await?,
        };
        let task = rpc::serve_routes(routes, options.clone(), listener, shutdown.token().clone());
        serving.run(Face::Grpc, shutdown, async { Ok(task.await?) });
    }
    let router = gateway::router(
        service.clone(),
        GatewayOptions { monitor: Some(feed.clone()), ..gateway_options(running, &live, metrics, &listening, forward.clone()) },
    );
    let limits = gateway::ServeLimits { connections_per_client_max: live.connections_per_client_max.clone(), ..Default::default() };
    if let Some(listener) = sockets.server {
        // Whoever holds no log brings requests here as they came: one port for all of them.
        let routes = rpc::routes(service.clone(), &options, shutdown.token()).await?;
        let routes = routes.add_service(consensus.peer_service()).add_service(consensus.remote_service());
        let routes = routes.add_service(rpc::exec::work::service(options.runs.clone()));
        let answerer = live.dns.clone();
        let questions = tower::service_fn(move |question: http::Request<AxumBody>| {
            let answerer = answerer.clone();
            async move { Ok::<_, std::convert::Infallible>(answerer.answer(question).await.map(AxumBody::new)) }
        });
        let routes = routes.into_axum_router().route_service(dns::PATH, questions).fallback_service(router.clone()).into();
        let reserve = forward
            .clone()
            .map(|forward| rpc::Reserve { connections: SERVER_PORT_RESERVE, is_server: Arc::new(move |host| forward.is_server(host)) });
        let options = RpcOptions { max_connections: SERVER_PORT_CONNECTIONS, reserve, ..options };
        let task = rpc::serve_routes(routes, options, listener, shutdown.token().clone());
        serving.run(Face::Server, shutdown, async { Ok(task.await?) });
    }
    for listener in sockets.http {
        let task = gateway::serve(listener, router.clone(), limits.clone(), shutdown.token().clone());
        serving.run(Face::Http, shutdown, async {
            task.await;
            Ok(())
        });
    }
    for sockets in sockets.dns {
        let task = dns::serve(live.dns.clone(), sockets, shutdown.token().clone());
        serving.run(Face::Dns, shutdown, async {
            task.await;
            Ok(())
        });
    }
    Ok((serving, live))
}

/// Where the agent listens, by the names that its description gives to the faces.
fn addresses(listening: &Listening) -> BTreeMap<String, String> {
    let first = |places: &[std::net::SocketAddr]| places.first().copied();
    let faces = [
        ("http", first(&listening.http)),
        ("grpc", first(&listening.grpc)),
        ("dns", first(&listening.dns)),
        ("server", listening.server),
        ("serf_lan", listening.gossip),
    ];
    faces.into_iter().filter_map(|(name, place)| Some((name.to_owned(), place?.to_string()))).collect()
}

fn live_options(config: &Config) -> anyhow::Result<LiveOptions> {
    let mut response_headers = Vec::new();
    for (name, value) in &config.http.response_headers {
        let header = (name.parse::<http::HeaderName>(), value.parse::<http::HeaderValue>());
        let (Ok(name), Ok(value)) = header else {
            anyhow::bail!(
                "`http_config.response_headers` holds `{name}: {value}`, which is not a header; use printable ASCII without line breaks"
            );
        };
        response_headers.push((name, value));
    }
    Ok(LiveOptions { response_headers, block_endpoints: config.http.block_endpoints.clone() })
}

fn gateway_options(
    running: &Arc<ArcSwap<Config>>,
    live: &Live,
    metrics: &Metrics,
    listening: &Listening,
    forward: Option<Forward>,
) -> GatewayOptions {
    let config = running.load();
    let shown = running.clone();
    GatewayOptions {
        pretty: config.dev,
        dev: config.dev,
        live: live.http.clone(),
        config: Some(Arc::new(move || shown.load().shown())),
        metrics: Some(metrics.source()),
        forward,
        grpc_port: listening.grpc.first().map(|address| address.port()),
        ..GatewayOptions::default()
    }
}

fn dns_options(config: &Config) -> anyhow::Result<DnsOptions> {
    let from = &config.dns;
    let domain = |text: &str| text.parse::<dns::Domain>().context("the domain of DNS answers");
    Ok(DnsOptions {
        domain: domain(&from.domain)?,
        alt_domain: from.alt_domain.as_deref().map(domain).transpose()?,
        node_ttl: from.node_ttl,
        service_ttl: dns::ServiceTtl::new(from.service_ttl.iter().map(|(name, ttl)| (name, *ttl))),
        only_passing: from.only_passing,
        enable_truncate: from.enable_truncate,
        udp_answer_limit: from.udp_answer_limit as usize,
        a_record_limit: from.a_record_limit as usize,
        soa: Soa { refresh: from.soa_refresh, retry: from.soa_retry, expire: from.soa_expire, min_ttl: from.soa_min_ttl },
        recursors: from.recursors.clone(),
        recursor_strategy: if from.recursor_random { dns::RecursorStrategy::Random } else { dns::RecursorStrategy::Sequential },
        recursor_timeout: from.recursor_timeout,
        allow_stale: from.allow_stale,
        max_stale: from.max_stale,
        disable_compression: from.disable_compression,
        enable_additional_node_meta_txt: from.enable_additional_node_meta_txt,
        ..DnsOptions::default()
    })
}
