package io.anytls.mobile.android

import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.await
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.launch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import java.net.InetAddress
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.CountDownLatch

/** Starts, stops and configs that meet each other. */
@OptIn(ExperimentalCoroutinesApi::class) // getCompleted
class StartStopTest : ServerTest() {
    @Test
    fun a_new_service_waits_for_the_one_before() {
        val first = nextTun()
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()

        destroy(service)
        val second = nextTun()
        restart()
        awaitState("up again") { it is VpnState.Up && FakeVpn.established.size == 2 }
        first.awaitClosed()
        awaitTunnel<TunnelState.Connected>()
        echo(second)
    }

    @Test
    fun a_bad_config_does_not_take_the_place_of_a_good_one() {
        nextTun()
        AnyTlsVpn.start(app, config)
        kill(deliverStart().also { awaitTunnel<TunnelState.Connected>() })
        AnyTlsVpn.start(app, VpnConfig("nonsense"))
        kill(deliverStart().also { awaitFailure<VpnFailure.BadConfig>() })

        nextTun()
        restart()
        awaitTunnel<TunnelState.Connected>()
    }

    @Test
    fun stopping_twice_and_before_the_start_is_fine() {
        AnyTlsVpn.stop()
        assertEquals(VpnState.Stopped, state)
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitState("up") { it is VpnState.Up }
        AnyTlsVpn.stop()
        AnyTlsVpn.stop()
        awaitState("stopped") { it == VpnState.Stopped }
    }

    @Test
    fun a_start_that_is_called_off_on_the_way_opens_nothing() {
        nextTun()
        AnyTlsVpn.start(app, config)
        AnyTlsVpn.stop()
        assertEquals(VpnState.Stopped, state)
        val service = deliverStart()
        awaitLeft(service)
        assertTrue(FakeVpn.established.isEmpty())
    }

    @Test
    fun another_config_is_followed_without_opening_anything() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()
        val before = AnyTlsVpn.sessions().map { it.seq }

        AnyTlsVpn.start(app, VpnConfig(server.uri("localhost"))) // another way to the server
        FakeVpn.names["localhost"] = listOf(InetAddress.getLoopbackAddress())
        deliverStart()
        await("the sessions by the old config to end") { AnyTlsVpn.sessions().none { it.seq in before } }
        assertEquals(1, FakeVpn.established.size)
        echo(tun)
    }

    @Test
    fun other_options_take_another_interface() {
        val first = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()

        val second = nextTun()
        val seen = CopyOnWriteArrayList<VpnState>()
        background.launch(Dispatchers.Unconfined) { AnyTlsVpn.state.collect { seen += it } }
        AnyTlsVpn.start(app, config.copy(options = VpnOptions(isBypassAllowed = true)))
        deliverStart()
        first.awaitClosed()
        awaitTunnel<TunnelState.Connected>()
        assertFalse("$seen", VpnState.Stopping in seen)
        assertEquals(listOf(false, true), FakeVpn.established.map { it.allowBypass })
        echo(second)
    }

    @Test
    fun a_config_that_cannot_be_used_leaves_the_vpn_as_it_is() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()

        val outcome = inBackground { AnyTlsVpn.startAndAwait(app, VpnConfig("{}")) }
        awaitRequest()
        deliverStart()
        await("an outcome") { outcome.isCompleted }
        assertTrue(((outcome.getCompleted() as VpnState.Failed).cause is VpnFailure.BadConfig))
        assertTrue("$state", state is VpnState.Up)
        echo(tun)
    }

    @Test
    fun waiting_for_start_and_stop() {
        val tun = nextTun()
        val up = inBackground { AnyTlsVpn.startAndAwait(app, config) }
        awaitRequest()
        deliverStart()
        await("an outcome") { up.isCompleted }
        assertTrue("${up.getCompleted()}", up.getCompleted() is VpnState.Up)

        val down = inBackground { AnyTlsVpn.stopAndAwait() }
        await("the stop to return") { down.isCompleted }
        assertEquals(VpnState.Stopped, state)
        tun.awaitClosed()
    }

    @Test
    fun a_start_that_is_cancelled_turns_the_vpn_off() {
        nextTun()
        val up = inBackground { AnyTlsVpn.startAndAwait(app, config) }
        awaitRequest()
        up.cancel()
        awaitState("stopped") { it == VpnState.Stopped }
        val service = deliverStart()
        awaitLeft(service)
        assertTrue(FakeVpn.established.isEmpty())
    }

    @Test
    fun the_end_of_a_run_that_was_replaced_is_no_failure() {
        val first = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()

        val second = nextTun()
        val isReplaced = CountDownLatch(1)
        FakeVpn.establishes = { isReplaced.await() }
        AnyTlsVpn.start(app, config.copy(options = VpnOptions(isBypassAllowed = true)))
        deliverStart()
        await("another interface") { FakeVpn.established.size == 2 }
        first.hangUp() // Android takes the old one down
        await("the core to notice") { AnyTlsVpn.shared.core.value?.state() is TunnelState.Failed }
        isReplaced.countDown()
        val outcome = inBackground { AnyTlsVpn.startAndAwait(app) } // carried out after whatever is left of the first
        awaitRequest()
        deliverStart()
        await("an outcome") { outcome.isCompleted }
        assertTrue("${outcome.getCompleted()}", outcome.getCompleted() is VpnState.Up)
        awaitTunnel<TunnelState.Connected>()
        echo(second)
    }

    @Test
    fun a_service_that_is_not_started_yet_does_not_leave() {
        AnyTlsVpn.start(app, config)
        val service = create() // and Android has not passed the start on
        val down = inBackground { AnyTlsVpn.stopAndAwait() }
        await("the stop to return") { down.isCompleted }
        assertEquals("a start that is never answered is a crash", 0, shadowOf(service.get()).stopSelfResultId)
        deliverStart()
        awaitLeft(service)
        assertEquals(VpnState.Stopped, state)
    }

    @Test
    fun a_second_tap_does_not_hide_a_failure() {
        val first = inBackground { AnyTlsVpn.startAndAwait(app, config) }
        awaitRequest()
        AnyTlsVpn.start(app, VpnConfig("nonsense"))
        deliverStart()
        awaitFailure<VpnFailure.BadConfig>()
        awaitLeft(deliverStart())
        awaitFailure<VpnFailure.BadConfig>()
        await("an outcome") { first.isCompleted }
        assertEquals("of the start that has replaced it", state, first.getCompleted())
    }

    @Test
    fun a_service_that_goes_amid_a_start_leaves_nothing_behind() {
        val tun = nextTun()
        val isGone = CountDownLatch(1)
        FakeVpn.establishes = { isGone.await() }
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        await("an interface to be asked for") { FakeVpn.established.isNotEmpty() }
        destroy(service)
        isGone.countDown()
        awaitState("stopped") { it == VpnState.Stopped }
        tun.awaitClosed()
    }

    @Test
    fun waiting_for_a_stop_waits_for_a_service_that_has_gone() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()
        destroy(service)
        val down = inBackground { AnyTlsVpn.stopAndAwait() }
        await("the stop to return") { down.isCompleted }
        assertNull(AnyTlsVpn.shared.core.value)
        tun.awaitClosed()
    }

    @Test
    fun a_service_that_goes_late_leaves_the_next_one_alone() {
        val late = create()
        val next = create()
        val controller = AnyTlsVpn.controller
        destroy(late)
        assertSame(controller, AnyTlsVpn.controller)
        destroy(next)
        assertNull(AnyTlsVpn.controller)
    }
}
