package io.anytls.mobile.android

import android.app.Application
import android.app.Service
import android.content.ComponentName
import android.content.Intent
import android.content.IntentFilter
import android.net.ConnectivityManager
import android.net.Network
import android.net.VpnService
import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.ShadowNames
import io.anytls.mobile.testing.ShadowNetworks
import io.anytls.mobile.testing.ShadowTunDescriptor
import io.anytls.mobile.testing.ShadowVpn
import io.anytls.mobile.testing.ShadowVpnBuilder
import io.anytls.mobile.testing.TestTun
import io.anytls.mobile.testing.await
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Before
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import org.robolectric.annotation.Config
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowNetwork
import java.util.concurrent.atomic.AtomicInteger

/** Android as far as the library sees it: an app that declares the service, a network, a user who has agreed. */
@RunWith(RobolectricTestRunner::class)
@Config(
    sdk = [33, 34, 35],
    shadows = [
        ShadowVpn::class,
        ShadowVpnBuilder::class,
        ShadowTunDescriptor::class,
        ShadowNetworks::class,
        ShadowNames::class,
    ],
)
abstract class VpnTest {
    protected val app: Application get() = RuntimeEnvironment.getApplication()
    protected val state: VpnState get() = AnyTlsVpn.state.value
    protected val wifi: Network = ShadowNetwork.newInstance(100)
    protected val cellular: Network = ShadowNetwork.newInstance(101)

    private val services = mutableListOf<ServiceController<out AnyTlsVpnService>>()
    private var serviceClass: Class<out AnyTlsVpnService> = AnyTlsVpnService::class.java
    private val tuns = mutableListOf<TestTun>()
    private val startIds = AtomicInteger()

    @Before
    fun android() {
        AnyTlsVpn.shared.state.value = VpnState.Stopped
        FakeVpn.reset()
        FakeVpn.network = wifi
        declare(AnyTlsVpnService::class.java)
        ConfigStore(app).clear()
    }

    @After
    fun end() {
        services.toList().forEach(::kill)
        tuns.forEach(TestTun::close)
    }

    protected fun declare(service: Class<out AnyTlsVpnService>) {
        serviceClass = service
        val name = ComponentName(app, service)
        val packages = shadowOf(app.packageManager)
        packages.addServiceIfNotPresent(name)
        packages.addIntentFilterForService(name, IntentFilter(VpnService.SERVICE_INTERFACE))
    }

    /** The next interface that Android opens. */
    protected fun nextTun(): TestTun = TestTun().also {
        tuns += it
        FakeVpn.tun = it
    }

    /** What Android does after `startForegroundService`: the service begins, unless it is there already. */
    protected fun deliverStart(): ServiceController<out AnyTlsVpnService> {
        val intent = checkNotNull(shadowOf(app).nextStartedService) { "the service was not started" }
        return deliver(intent)
    }

    /** What Android does after it has killed the process, or for always-on. */
    protected fun restart(intent: Intent? = null): ServiceController<out AnyTlsVpnService> = deliver(intent)

    private fun deliver(intent: Intent?): ServiceController<out AnyTlsVpnService> {
        val service = services.lastOrNull() ?: create()
        assertEquals(Service.START_STICKY, service.get().onStartCommand(intent, 0, startIds.incrementAndGet()))
        return service
    }

    /** The service is there, and what it is to do has not been delivered. */
    protected fun create(): ServiceController<out AnyTlsVpnService> =
        Robolectric.buildService(serviceClass).create().also { services += it }

    /** The service ends, with or without having been told to; returns when nothing of it is left. */
    protected fun kill(service: ServiceController<out AnyTlsVpnService>) {
        destroy(service)
        await("the core to be closed") { AnyTlsVpn.shared.core.value == null && !AnyTlsVpn.shared.turn.isLocked }
    }

    /** The same, with the end still under way. */
    protected fun destroy(service: ServiceController<out AnyTlsVpnService>) {
        services -= service
        service.destroy()
    }

    protected fun awaitState(what: String, fits: (VpnState) -> Boolean): VpnState {
        try {
            await(what) { fits(state) }
        } catch (e: AssertionError) {
            throw AssertionError("${e.message}; it is $state", e)
        }
        return state
    }

    protected inline fun <reified T : TunnelState> awaitTunnel(): T {
        val up = awaitState("up and ${T::class.java.simpleName}") { (it as? VpnState.Up)?.tunnel is T }
        return (up as VpnState.Up).tunnel as T
    }

    protected inline fun <reified T : VpnFailure> awaitFailure(): T {
        val failed = awaitState("failed with ${T::class.java.simpleName}") { (it as? VpnState.Failed)?.cause is T }
        return (failed as VpnState.Failed).cause as T
    }

    protected fun change(network: Network?) = networks.change(network)

    protected fun lose(network: Network) = networks.lose(network)

    protected val networks: ShadowNetworks
        get() = Shadow.extract(app.getSystemService(ConnectivityManager::class.java)!!)
}
