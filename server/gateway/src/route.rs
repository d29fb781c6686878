//! Which handler a path belongs to.

use http::Method;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Kv,
    Txn,
    CatalogRegister,
    CatalogDeregister,
    CatalogDatacenters,
    CatalogNodes,
    CatalogServices,
    CatalogService,
    CatalogNode,
    CatalogNodeServices,
    HealthNode,
    HealthChecks,
    HealthState,
    HealthService,
    AgentSelf,
    AgentVersion,
    AgentHost,
    AgentMetrics,
    AgentMetricsStream,
    AgentMonitor,
    AgentServices,
    AgentService,
    AgentChecks,
    AgentMembers,
    AgentRegisterService,
    AgentDeregisterService,
    AgentRegisterCheck,
    AgentDeregisterCheck,
    AgentPass,
    AgentWarn,
    AgentFail,
    AgentUpdate,
    AgentReload,
    AgentMaintenance,
    AgentServiceMaintenance,
    AgentHealthById,
    AgentHealthByName,
    AgentJoin,
    AgentLeave,
    AgentForceLeave,
    SessionCreate,
    SessionDestroy,
    SessionRenew,
    SessionInfo,
    SessionNode,
    SessionList,
    StatusLeader,
    StatusPeers,
    EventFire,
    EventList,
    RaftConfiguration,
    RaftPeer,
    RaftTransfer,
    AutopilotHealth,
    AutopilotState,
    AutopilotConfiguration,
    Keyring,
    Coordinates,
    CoordinateDatacenters,
    Snapshot,
    Watch,
    /// Known by name, not part of this build.
    Absent,
    /// Access control, which is not configured.
    Acl,
}

impl Endpoint {
    /// Whether it is about this agent, in whatever datacenter it is.
    pub(crate) fn is_of_this_agent(self) -> bool {
        use Endpoint::*;
        matches!(
            self,
            AgentSelf
                | AgentVersion
                | AgentHost
                | AgentMetrics
                | AgentMetricsStream
                | AgentMonitor
                | AgentServices
                | AgentService
                | AgentChecks
                | AgentMembers
                | AgentRegisterService
                | AgentDeregisterService
                | AgentRegisterCheck
                | AgentDeregisterCheck
                | AgentPass
                | AgentWarn
                | AgentFail
                | AgentUpdate
                | AgentReload
                | AgentMaintenance
                | AgentServiceMaintenance
                | AgentHealthById
                | AgentHealthByName
                | AgentJoin
                | AgentLeave
                | AgentForceLeave
                | Acl
        )
    }

    /// Whether every agent answers it by itself.
    pub(crate) fn is_local(self) -> bool {
        self.is_of_this_agent() || matches!(self, Endpoint::EventFire | Endpoint::EventList | Endpoint::Coordinates)
    }

    /// Whether only the leader can do it, or knows all of it.
    pub(crate) fn is_for_the_leader(self) -> bool {
        matches!(
            self,
            Endpoint::RaftConfiguration
                | Endpoint::RaftPeer
                | Endpoint::RaftTransfer
                | Endpoint::AutopilotHealth
                | Endpoint::AutopilotState
        )
    }

    /// Whether its body may name the datacenter that it is for.
    pub(crate) fn names_its_datacenter(self) -> bool {
        matches!(self, Endpoint::CatalogRegister | Endpoint::CatalogDeregister)
    }

    /// Whether its answers carry an index, so that clients can wait for the next one.
    pub(crate) fn is_indexed(self) -> bool {
        use Endpoint::*;
        matches!(
            self,
            Kv | CatalogNodes
                | CatalogServices
                | CatalogService
                | CatalogNode
                | CatalogNodeServices
                | HealthNode
                | HealthChecks
                | HealthState
                | HealthService
                | SessionInfo
                | SessionNode
                | SessionList
                | Coordinates
        )
    }
}

/// A path or, when it ends in a slash, everything under it.
pub(crate) struct Route {
    path: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) endpoint: Endpoint,
}

impl Route {
    fn new(path: &'static str, methods: &'static [Method], endpoint: Endpoint) -> Self {
        Route { path, methods, endpoint }
    }

    /// What an `Allow` header says.
    pub(crate) fn allow(&self) -> String {
        let mut text = String::from("OPTIONS");
        for method in self.methods {
            text.push(',');
            text.push_str(method.as_str());
        }
        text
    }
}

const READ: &[Method] = &[Method::GET];
const WRITE: &[Method] = &[Method::PUT];
const STORE: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];
const POSTED: &[Method] = &[Method::POST, Method::PUT];
const ALL: &[Method] = &[Method::GET, Method::PUT, Method::POST, Method::DELETE];

/// A path that was looked up.
pub(crate) enum Found {
    /// The route, and where in the path its rest begins.
    Route(&'static Route, usize),
    /// There is a route for the path with a slash at its end.
    Slash,
    Nothing,
}

/// Every route; where one is the beginning of another, the longer comes first.
static ROUTES: std::sync::LazyLock<Vec<Route>> = std::sync::LazyLock::new(routes);

fn routes() -> Vec<Route> {
    use Endpoint::*;
    let mut routes = vec![
        Route::new("/v1/kv/", STORE, Kv),
        Route::new("/v1/health/service/", READ, HealthService),
        Route::new("/v1/catalog/service/", READ, CatalogService),
        Route::new("/v1/agent/check/pass/", WRITE, AgentPass),
        Route::new("/v1/agent/check/update/", WRITE, AgentUpdate),
        Route::new("/v1/txn", WRITE, Txn),
        Route::new("/v1/health/node/", READ, HealthNode),
        Route::new("/v1/health/checks/", READ, HealthChecks),
        Route::new("/v1/health/state/", READ, HealthState),
        Route::new("/v1/catalog/register", WRITE, CatalogRegister),
        Route::new("/v1/catalog/deregister", WRITE, CatalogDeregister),
        Route::new("/v1/catalog/datacenters", READ, CatalogDatacenters),
        Route::new("/v1/catalog/nodes", READ, CatalogNodes),
        Route::new("/v1/catalog/services", READ, CatalogServices),
        Route::new("/v1/catalog/node/", READ, CatalogNode),
        Route::new("/v1/catalog/node-services/", READ, CatalogNodeServices),
        Route::new("/v1/agent/maintenance", WRITE, AgentMaintenance),
        Route::new("/v1/agent/reload", WRITE, AgentReload),
        Route::new("/v1/agent/self", READ, AgentSelf),
        Route::new("/v1/agent/version", READ, AgentVersion),
        Route::new("/v1/agent/host", READ, AgentHost),
        Route::new("/v1/agent/metrics", READ, AgentMetrics),
        Route::new("/v1/agent/metrics/stream", READ, AgentMetricsStream),
        Route::new("/v1/agent/monitor", READ, AgentMonitor),
        Route::new("/v1/agent/services", READ, AgentServices),
        Route::new("/v1/agent/checks", READ, AgentChecks),
        Route::new("/v1/agent/members", READ, AgentMembers),
        Route::new("/v1/agent/service/register", WRITE, AgentRegisterService),
        Route::new("/v1/agent/service/deregister/", WRITE, AgentDeregisterService),
        Route::new("/v1/agent/service/maintenance/", WRITE, AgentServiceMaintenance),
        Route::new("/v1/agent/service/", READ, AgentService),
        Route::new("/v1/agent/check/register", WRITE, AgentRegisterCheck),
        Route::new("/v1/agent/check/deregister/", WRITE, AgentDeregisterCheck),
        Route::new("/v1/agent/check/warn/", WRITE, AgentWarn),
        Route::new("/v1/agent/check/fail/", WRITE, AgentFail),
        Route::new("/v1/agent/health/service/id/", READ, AgentHealthById),
        Route::new("/v1/agent/health/service/name/", READ, AgentHealthByName),
        Route::new("/v1/session/create", WRITE, SessionCreate),
        Route::new("/v1/session/destroy/", WRITE, SessionDestroy),
        Route::new("/v1/session/renew/", WRITE, SessionRenew),
        Route::new("/v1/session/info/", READ, SessionInfo),
        Route::new("/v1/session/node/", READ, SessionNode),
        Route::new("/v1/session/list", READ, SessionList),
        Route::new("/v1/status/leader", READ, StatusLeader),
        Route::new("/v1/status/peers", READ, StatusPeers),
        Route::new("/v1/watch/", READ, Watch),
        Route::new("/v1/agent/join/", WRITE, AgentJoin),
        Route::new("/v1/agent/leave", WRITE, AgentLeave),
        Route::new("/v1/agent/force-leave/", WRITE, AgentForceLeave),
        Route::new("/v1/event/fire/", WRITE, EventFire),
        Route::new("/v1/event/list", READ, EventList),
        Route::new("/v1/operator/raft/configuration", READ, RaftConfiguration),
        Route::new("/v1/operator/raft/peer", &[Method::DELETE], RaftPeer),
        Route::new("/v1/operator/raft/transfer-leader", POSTED, RaftTransfer),
        Route::new("/v1/operator/autopilot/health", READ, AutopilotHealth),
        Route::new("/v1/operator/autopilot/state", READ, AutopilotState),
        Route::new("/v1/operator/autopilot/configuration", &[Method::GET, Method::PUT], AutopilotConfiguration),
        Route::new("/v1/operator/keyring", ALL, Keyring),
        Route::new("/v1/snapshot", &[Method::GET, Method::PUT], Snapshot),
        Route::new("/v1/coordinate/datacenters", READ, CoordinateDatacenters),
        Route::new("/v1/coordinate/nodes", READ, Coordinates),
        Route::new("/v1/coordinate/node/", READ, Coordinates),
    ];
    let absent: &[(&'static str, &'static [Method])] = &[
        ("/v1/agent/token/", WRITE),
        ("/v1/agent/connect/", ALL),
        ("/v1/catalog/connect/", READ),
        ("/v1/catalog/gateway-services/", READ),
        ("/v1/health/connect/", READ),
        ("/v1/health/ingress/", READ),
        ("/v1/coordinate/update", WRITE),
        ("/v1/query", POSTED),
        ("/v1/query/", ALL),
        ("/v1/operator/", ALL),
        ("/v1/config", WRITE),
        ("/v1/config/", ALL),
        ("/v1/connect/", ALL),
        ("/v1/discovery-chain/", ALL),
        ("/v1/exported-services", READ),
        ("/v1/imported-services", READ),
        ("/v1/peering", ALL),
        ("/v1/peering/", ALL),
        ("/v1/peerings", READ),
        ("/v1/internal/", ALL),
    ];
    routes.extend(absent.iter().map(|(path, methods)| Route::new(path, methods, Absent)));
    routes.push(Route::new("/v1/acl/", ALL, Acl));
    routes.sort_by_key(|route| std::cmp::Reverse(hot(route.endpoint)));
    routes
}

/// Routes that are looked at first; none of them begins another.
fn hot(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Kv | Endpoint::HealthService | Endpoint::CatalogService)
}

/// Finds the route of a path that has been cleaned.
pub(crate) fn find(path: &[u8]) -> Found {
    let mut slash = false;
    for route in ROUTES.iter() {
        let wanted = route.path.as_bytes();
        if wanted.ends_with(b"/") {
            if path.starts_with(wanted) {
                return Found::Route(route, wanted.len());
            }
            slash |= path == &wanted[..wanted.len() - 1];
        } else if path == wanted {
            return Found::Route(route, wanted.len());
        }
    }
    if slash { Found::Slash } else { Found::Nothing }
}

/// The path without empty steps, `.` and `..`, if it has any of them.
pub(crate) fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    let dirty = !path.starts_with(b"/") || path.windows(2).any(|pair| pair == b"//" || pair == b"/.");
    if !dirty {
        return None;
    }
    let mut steps: Vec<&[u8]> = Vec::new();
    for step in path.split(|byte| *byte == b'/') {
        match step {
            b"" | b"." => {}
            b".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend_from_slice(&steps.join(&b'/'));
    if path.ends_with(b"/") && clean.len() > 1 {
        clean.push(b'/');
    }
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(path: &str) -> Option<(Endpoint, String)> {
        match find(path.as_bytes()) {
            Found::Route(route, at) => Some((route.endpoint, path[at..].to_owned())),
            _ => None,
        }
    }

    #[test]
    fn paths_lead_to_their_endpoints() {
        for (path, wanted, rest) in [
            ("/v1/kv/", Endpoint::Kv, ""),
            ("/v1/kv/a/b", Endpoint::Kv, "a/b"),
            ("/v1/agent/service/register", Endpoint::AgentRegisterService, ""),
            ("/v1/agent/service/web", Endpoint::AgentService, "web"),
            ("/v1/agent/service/deregister/web", Endpoint::AgentDeregisterService, "web"),
            ("/v1/agent/services", Endpoint::AgentServices, ""),
            ("/v1/agent/metrics/stream", Endpoint::AgentMetricsStream, ""),
            ("/v1/agent/host", Endpoint::AgentHost, ""),
            ("/v1/query", Endpoint::Absent, ""),
            ("/v1/acl/token/self", Endpoint::Acl, "token/self"),
            ("/v1/watch/kv/a", Endpoint::Watch, "kv/a"),
        ] {
            assert_eq!(endpoint(path), Some((wanted, rest.to_owned())), "{path}");
        }
        assert_eq!(endpoint("/v1/kvx"), None);
        assert_eq!(endpoint("/v1/txn/"), None);
        assert!(matches!(find(b"/v1/kv"), Found::Slash));
        assert!(matches!(find(b"/v1/agent/service"), Found::Slash));
    }

    #[test]
    fn paths_are_cleaned_like_a_file_name() {
        for (path, clean) in [
            ("/v1/kv//a", "/v1/kv/a"),
            ("/v1/kv/a/", "/v1/kv/a/"),
            ("/v1/kv/./a", "/v1/kv/a"),
            ("/v1/kv/b/../a/", "/v1/kv/a/"),
            ("/v1/kv/.hidden", "/v1/kv/.hidden"),
            ("/../../x", "/x"),
            ("/", "/"),
            ("//", "/"),
            ("", "/"),
        ] {
            let cleaned = cleaned(path.as_bytes()).unwrap_or_else(|| path.into());
            assert_eq!(String::from_utf8(cleaned).unwrap(), clean, "{path}");
        }
    }
}
