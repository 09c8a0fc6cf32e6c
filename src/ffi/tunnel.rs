//! The object that apps hold.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::life::{Attach, Life, lock};
use super::shield::{shielded, shielded_async, shielded_or};
use super::{
    ConnectionInfo, Descriptor, EventListener, LatencyReport, MemoryPressure, PacketFlow, Platform, Power,
    SessionInfo, TunnelError, TunnelState, TunnelStats, config,
};
use crate::clock::Clock;
use crate::logging;
use crate::private::Private;
use crate::proto::target::Target;
use crate::task::RuntimeThread;
use crate::tun::batches;
use crate::tunnel::{ConnectionId, Path, Tun};

/// A tunnel, on or off. Dropping it turns it off, without waiting.
#[derive(uniffi::Object)]
pub struct Tunnel {
    life: Arc<Life>,
    /// Tells the listeners, from the first one on.
    teller: Mutex<Option<RuntimeThread<()>>>,
}

#[uniffi::export]
impl Tunnel {
    /// A tunnel that is off. Takes no work and no threads. Without a platform, the system keeps our sockets out
    /// of the VPN, as it does in an Apple extension.
    #[uniffi::constructor]
    pub fn new(platform: Option<Arc<dyn Platform>>) -> Arc<Self> {
        Arc::new(Self { life: Life::new(platform), teller: Mutex::default() })
    }

    /// Turns the tunnel on: ready once the config is checked and the TUN attached. The first sessions are being
    /// dialled then, and the state tells how that goes.
    ///
    /// `config` is whatever `parse_config` takes. `tun` is taken over in every case, errors included.
    ///
    /// # Errors
    /// `Config`, `Descriptor`, `AlreadyStarted`, `TlsSettings`, `Tun`, `Resources`; `Cancelled` when `stop` came first.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the tunnel off, and closes the TUN, unless it was ready: a coroutine that is
    /// cancelled at that very moment does not know, so whoever cancels a start calls `stop` after it.
    pub async fn start(&self, config: String, tun: Descriptor) -> Result<(), TunnelError> {
        let attach: Attach = Box::new(|_, _| (Tun::Fd(tun.into()), None));
        shielded_async(self.life.start(config, attach)).await
    }

    /// The same without a descriptor: packets for apps go to `flow`, those from apps come by
    /// [`handle_packets`](Self::handle_packets).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_with_packets(
        &self,
        config: String,
        flow: Arc<dyn PacketFlow>,
    ) -> Result<(), TunnelError> {
        let attach: Attach = Box::new(|mtu, gate| {
            let gate = Arc::clone(gate);
            let (device, input) = batches(mtu, move |packets| {
                if let Err(error) = gate.pass(|| flow.write_packets(packets)) {
                    tracing::debug!(error = %Private(&error), "packets for apps are lost");
                }
            });
            (Tun::Device(Box::new(device)), Some(Arc::new(input)))
        });
        shielded_async(self.life.start(config, attach)).await
    }

    /// Brings packets from apps to a tunnel that was started
    /// [with packets](Self::start_with_packets); how many found no room and are gone.
    ///
    /// # Errors
    /// `NotStarted`, also when it was started with a descriptor.
    pub fn handle_packets(&self, packets: Vec<Vec<u8>>) -> Result<u32, TunnelError> {
        shielded(|| {
            let input = self.life.running()?.input.ok_or(TunnelError::NotStarted)?;
            Ok(u32::try_from(input.push(packets)).unwrap_or(u32::MAX))
        })
    }

    /// Turns the tunnel off: every flow is reset, every session ended, the TUN closed. Takes a second at most,
    /// and no callback begins after it has returned. Stopping twice is fine, and so is stopping in a callback; when
    /// that is a listener's, no listener hears of it.
    ///
    /// # Cancel safety
    /// The stop goes on without the future.
    pub async fn stop(&self) {
        let stop = async {
            self.life.stop().await;
            Ok(())
        };
        let _logged = shielded_async(stop).await;
    }

    /// Goes by another config from now on, with the TUN as it is. Another server, or another way to it, ends the
    /// connections that there are; other changes leave them alone.
    ///
    /// # Errors
    /// `Config`, `TunSettings` when something under `tun` differs, `TlsSettings`, `NotStarted`. Nothing has
    /// changed then.
    ///
    /// # Cancel safety
    /// Dropping the future before it is done leaves a reload that goes on, or one that never began.
    pub async fn reload(&self, config: String) -> Result<(), TunnelError> {
        let reload = async {
            let config = config::read(&config)?.config;
            let run = self.life.running()?;
            let level = config.log.level;
            run.tunnel.reload(config).await?;
            logging::set_config_level(level);
            Ok(())
        };
        shielded_async(reload).await
    }

    /// Relays a connected TCP or AF_UNIX socket to `destination` (`host:port`) through the tunnel, for apps
    /// with a TCP stack of their own; the number of the connection. The socket is taken over in every case.
    ///
    /// # Errors
    /// `Descriptor`, `Destination`, `NotStarted`. That the server does not open the stream is seen at the socket.
    pub fn connect_stream(&self, socket: Descriptor, destination: &str) -> Result<u64, TunnelError> {
        shielded(|| {
            let destination = read_destination(destination)?;
            let ConnectionId(id) = self.life.running()?.tunnel.connect_stream(socket.into(), destination)?;
            Ok(id)
        })
    }

    /// Which network the phone's traffic leaves by, told from others by `path`; null for none. May be called as
    /// often as the system says anything. Also counts for the next start.
    ///
    /// Android: the network's handle. Apple: interface and gateway.
    pub fn network_changed(&self, path: Option<String>) {
        let path = path.map(Path::new);
        let note = path.clone();
        shielded_or((), || {
            self.life.tell(|phone| phone.path = Some(note), |tunnel| tunnel.network_changed(path));
        });
    }

    /// How awake the phone is. Also counts for the next start.
    pub fn set_power(&self, power: Power) {
        let power = power.into();
        shielded_or((), || {
            self.life.tell(|phone| phone.power = power, |tunnel| tunnel.set_power(power));
            self.life.events.news.notify_one();
        });
    }

    /// How short the system is of memory. Also counts for the next start.
    pub fn memory_pressure(&self, pressure: MemoryPressure) {
        let pressure = pressure.into();
        shielded_or((), || {
            self.life.tell(|phone| phone.pressure = pressure, |tunnel| tunnel.memory_pressure(pressure));
        });
    }

    /// How the tunnel is doing.
    pub fn state(&self) -> TunnelState {
        shielded_or(TunnelState::Stopped, || TunnelState::of(&self.life.state(), Clock::Boot.now()))
    }

    /// What was counted since the start; after a stop, until then.
    pub fn stats(&self) -> TunnelStats {
        shielded_or(TunnelStats::default(), || self.life.stats())
    }

    /// The sessions with the server, oldest first.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        shielded_or(Vec::new(), || {
            let Ok(run) = self.life.running() else { return Vec::new() };
            run.tunnel.sessions().into_iter().map(SessionInfo::from).collect()
        })
    }

    /// The apps' connections, oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        shielded_or(Vec::new(), || {
            let Ok(run) = self.life.running() else { return Vec::new() };
            run.tunnel.connections().into_iter().map(ConnectionInfo::from).collect()
        })
    }

    /// Resets a connection; false when none that lives has this number.
    pub fn close_connection(&self, id: u64) -> bool {
        shielded_or(false, || {
            self.life.running().is_ok_and(|run| run.tunnel.close_connection(ConnectionId(id)))
        })
    }

    /// Measures the server with a session of its own, and streams to `destination` (`host:port`).
    ///
    /// # Errors
    /// `Destination`, `NotStarted`, `Dial`, `Refused`, `Offline`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the measurement.
    pub async fn test_latency(&self, destination: String) -> Result<LatencyReport, TunnelError> {
        let test = async {
            let destination = read_destination(&destination)?;
            let run = self.life.running()?;
            Ok(run.tunnel.test_latency(&destination).await?.into())
        };
        shielded_async(test).await
    }

    /// Tells `listener` the state, first as it is, then whenever it is another; and the stats at `stats_interval`,
    /// while the tunnel runs and the phone is interactive. The number is for [`unsubscribe`](Self::unsubscribe).
    ///
    /// # Errors
    /// `Resources` when there is no thread for it.
    pub fn subscribe(
        &self,
        listener: Arc<dyn EventListener>,
        stats_interval: Option<Duration>,
    ) -> Result<u64, TunnelError> {
        shielded(|| {
            let mut teller = lock(&self.teller);
            if teller.is_none() {
                let life = Arc::clone(&self.life);
                let spawned = RuntimeThread::spawn("anytls-events", move || life.tell_listeners());
                *teller = Some(spawned.map_err(|error| TunnelError::resources(&error))?);
            }
            Ok(self.life.events.add(listener, stats_interval))
        })
    }

    /// Tells the listener with that number nothing more; a call that has begun may still be under way.
    pub fn unsubscribe(&self, id: u64) {
        shielded_or((), || self.life.events.remove(id));
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.life.abandon();
    }
}

fn read_destination(text: &str) -> Result<Target, TunnelError> {
    text.parse().map_err(|error| TunnelError::Destination { reason: format!("{error}") })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::{Context, Poll};

    use super::*;
    use crate::ffi::{CallbackError, Event};
    use crate::tun::{Device, SendError};

    const CONFIG: &str = r#"{"server": {"server": "127.0.0.1", "server_port": 9, "password": "x"}}"#;

    struct Unlucky;

    impl Device for Unlucky {
        fn mtu(&self) -> usize {
            1500
        }

        fn poll_recv(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            panic!("out of luck")
        }

        fn send(&mut self, _: &[u8]) -> Result<(), SendError> {
            Ok(())
        }
    }

    struct Heard(std::sync::mpsc::SyncSender<Event>);

    impl EventListener for Heard {
        fn on_event(&self, event: Event) -> Result<(), CallbackError> {
            let _the_test_is_over = self.0.try_send(event);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_inside_is_an_event_and_then_an_error_and_a_new_start_works() {
        let tunnel = Tunnel::new(None);
        let (heard, events) = std::sync::mpsc::sync_channel(16);
        tunnel.subscribe(Arc::new(Heard(heard)), None).unwrap();
        tunnel
            .life
            .start(CONFIG.to_owned(), Box::new(|_, _| (Tun::Device(Box::new(Unlucky)), None)))
            .await
            .unwrap();
        let is_it = |event: &Event| match event {
            Event::State { state: TunnelState::Failed { failure, .. } } => failure.code == "internal",
            Event::State { .. } | Event::Stats { .. } => false,
        };
        while !is_it(&events.recv_timeout(Duration::from_secs(60)).expect("an event")) {}
        let late = tunnel.test_latency("echo.example:7".to_owned()).await;
        assert_eq!(late, Err(TunnelError::NotStarted));
        assert_eq!(tunnel.reload(CONFIG.to_owned()).await, Err(TunnelError::NotStarted));

        tunnel.life.start(CONFIG.to_owned(), Box::new(|_, _| (Tun::None, None))).await.expect("started anew");
        tunnel.stop().await;
        assert_eq!(tunnel.state(), TunnelState::Stopped);
    }
}
