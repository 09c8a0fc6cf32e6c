package io.anytls.mobile.android

import android.content.ComponentCallbacks2
import android.content.Intent
import android.net.Network
import android.os.PowerManager
import io.anytls.mobile.CallbackException
import io.anytls.mobile.MemoryPressure
import io.anytls.mobile.Power
import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.await
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancel
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import java.util.concurrent.atomic.AtomicInteger

/** What Android says of the phone reaches the core. */
class PhoneTest : ServerTest() {
    private val power get() = shadowOf(app.getSystemService(PowerManager::class.java))

    @Test
    fun the_core_rests_in_doze() {
        connect()
        power.setIsDeviceIdleMode(true)
        broadcast(PowerManager.ACTION_DEVICE_IDLE_MODE_CHANGED)
        awaitTunnel<TunnelState.Paused>()

        power.setIsDeviceIdleMode(false)
        broadcast(PowerManager.ACTION_DEVICE_IDLE_MODE_CHANGED)
        awaitTunnel<TunnelState.Connected>()
    }

    @Test
    fun with_the_battery_saver_a_dark_screen_counts_as_doze() {
        connect()
        power.setIsPowerSaveMode(true)
        broadcast(PowerManager.ACTION_POWER_SAVE_MODE_CHANGED)
        power.setIsInteractive(false)
        broadcast(Intent.ACTION_SCREEN_OFF)
        awaitTunnel<TunnelState.Paused>()

        power.setIsInteractive(true)
        broadcast(Intent.ACTION_SCREEN_ON)
        awaitTunnel<TunnelState.Connected>()
    }

    @Test
    fun stats_come_while_they_are_collected_and_the_screen_is_on() {
        val seen = AtomicInteger()
        val collector = CoroutineScope(Dispatchers.Default)
        power.setIsInteractive(false)
        collector.launch { AnyTlsVpn.stats.collect { seen.incrementAndGet() } }
        try {
            connect()
            assertEquals(0, seen.get())
            power.setIsInteractive(true)
            broadcast(Intent.ACTION_SCREEN_ON)
            await("stats") { seen.get() > 1 }
        } finally {
            collector.cancel()
        }
    }

    @Test
    fun the_loss_of_a_network_that_was_replaced_is_no_news() {
        val seen = mutableListOf<Network?>()
        val collector = CoroutineScope(Dispatchers.Unconfined) // so that nothing is conflated
        collector.launch { NetworkMonitor(app).paths.collect { seen += it?.network } }
        try {
            change(cellular)
            lose(wifi)
            change(wifi)
            change(null)
            assertEquals(listOf(wifi, cellular, wifi, null), seen)
        } finally {
            collector.cancel()
        }
    }

    @Test
    fun an_address_that_is_lost_makes_another_path() {
        val seen = mutableListOf<NetworkPath?>()
        val collector = CoroutineScope(Dispatchers.Unconfined)
        networks.readdress(wifi, "10.0.0.2/24")
        collector.launch { NetworkMonitor(app).paths.collect { seen += it } }
        try {
            networks.readdress(wifi, "10.0.0.2/24")
            networks.readdress(wifi, "10.0.0.2/24", "fd00::2/64")
            networks.readdress(cellular, "10.9.0.2/24")
            assertEquals(listOf(NetworkPath(wifi)), seen)
            networks.readdress(wifi, "10.0.0.3/24", "fd00::2/64")
            assertEquals(listOf(NetworkPath(wifi), NetworkPath(wifi, generation = 1)), seen)
            assertEquals(2, seen.map { it?.name }.toSet().size)
        } finally {
            collector.cancel()
        }
    }

    @Test
    fun a_system_that_does_not_tell_of_networks_has_none() {
        FakeVpn.networkError = SecurityException("not granted")
        assertNull(runBlocking { NetworkMonitor(app).paths.first() })
    }

    @Test
    fun no_name_is_looked_up_without_a_network() {
        val protector = SocketProtector(AnyTlsVpnService())
        assertThrows(CallbackException.Failed::class.java) { protector.resolve("vpn.example") }
    }

    @Test
    fun nobody_listens_to_the_phone_while_the_vpn_is_off() {
        val before = listeners()
        connect()
        assertEquals(before.map { it + 1 }, listeners())
        AnyTlsVpn.stop()
        awaitState("stopped") { it == VpnState.Stopped }
        assertEquals(before, listeners())
    }

    @Test
    fun how_awake_the_phone_is() {
        assertEquals(Power.INTERACTIVE, powerOf(isInteractive = true, isIdle = false, isPowerSave = false))
        assertEquals(Power.INTERACTIVE, powerOf(isInteractive = true, isIdle = false, isPowerSave = true))
        assertEquals(Power.BACKGROUND, powerOf(isInteractive = false, isIdle = false, isPowerSave = false))
        assertEquals(Power.DOZE, powerOf(isInteractive = false, isIdle = false, isPowerSave = true))
        assertEquals(Power.DOZE, powerOf(isInteractive = false, isIdle = true, isPowerSave = false))
    }

    @Test
    @Suppress("DEPRECATION")
    fun how_short_memory_is() {
        assertEquals(MemoryPressure.CRITICAL, pressureOf(ComponentCallbacks2.TRIM_MEMORY_COMPLETE))
        assertEquals(MemoryPressure.CRITICAL, pressureOf(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL))
        assertEquals(MemoryPressure.LOW, pressureOf(ComponentCallbacks2.TRIM_MEMORY_RUNNING_LOW))
        assertEquals(MemoryPressure.LOW, pressureOf(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND))
        assertNull(pressureOf(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN))
    }

    @Test
    fun short_memory_costs_the_idle_sessions() {
        val service = connect().get()
        await("an idle session") { AnyTlsVpn.sessions().any { it.idle != null } }
        service.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        await("no idle session") { AnyTlsVpn.sessions().none { it.idle != null } }
    }

    private fun broadcast(action: String) = app.sendBroadcast(Intent(action))

    private fun listeners(): List<Int> = listOf(shadowOf(app).registeredReceivers.size, networks.networkCallbacks.size)
}
