package io.anytls.mobile.android

import android.app.Notification
import android.app.NotificationManager
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.PowerManager
import io.anytls.mobile.Power
import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.await
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancel
import kotlinx.coroutines.flow.flowOf
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.launch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import java.util.concurrent.atomic.AtomicInteger

class NotificationTest : ServerTest() {
    private val manager get() = app.getSystemService(NotificationManager::class.java)!!
    private val shown: Notification? get() = shadowOf(manager).allNotifications.singleOrNull()
    private val power get() = shadowOf(app.getSystemService(PowerManager::class.java))

    @Test
    fun the_service_is_in_the_foreground_before_anything_else() {
        AnyTlsVpn.start(app, config)
        deliverStart()
        val (notification, type) = FakeVpn.foreground.single()
        assertEquals("Starting", notification.text)
        assertNotNull(manager.getNotificationChannel(notification.channelId))
        assertEquals(from34(ServiceInfo.FOREGROUND_SERVICE_TYPE_SYSTEM_EXEMPTED), type)
    }

    @Test
    fun without_consent_there_is_another_type() {
        FakeVpn.prepared(false)
        AnyTlsVpn.start(app, config)
        deliverStart()
        assertEquals(from34(ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE), FakeVpn.foreground.single().second)
        awaitFailure<VpnFailure.NotPrepared>()
    }

    @Test
    fun a_service_that_may_not_be_in_the_foreground_ends() {
        FakeVpn.foregroundError = IllegalStateException("started from the background")
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitFailure<VpnFailure.ServiceRefused>()
    }

    @Test
    fun it_follows_state_and_speed() {
        connect()
        await("a speed") { shown?.text.orEmpty().startsWith("↑ ") }
        change(null)
        await("the state") { shown?.text == "Waiting for a network" }
        AnyTlsVpn.stop()
        awaitState("stopped") { it == VpnState.Stopped }
        await("it to go") { shown == null }
    }

    @Test
    fun it_rests_while_nobody_can_see_it() {
        connect()
        await("a speed") { shown?.text.orEmpty().startsWith("↑ ") }
        screen(isOn = false)
        change(null)
        awaitTunnel<TunnelState.WaitingForNetwork>()
        val asleep = shown?.text
        screen(isOn = true)
        await("the state") { shown?.text == "Waiting for a network" }
        assertTrue("$asleep", asleep.orEmpty().startsWith("↑ "))
    }

    @Test
    fun once_swiped_away_it_comes_back_with_another_state() {
        connect()
        val seen = AtomicInteger()
        val speeding = AnyTlsVpn.stats.map {
            val bytes = seen.incrementAndGet().let { n -> n * n * 1000 }.toULong() // another speed each time
            it.copy(traffic = it.traffic.copy(upBytes = bytes))
        }
        val notification = TunnelNotification(Robolectric.buildService(AnyTlsVpnService::class.java).get())
        val follower = CoroutineScope(Dispatchers.Default)
        follower.launch { notification.follow(AnyTlsVpn.state, speeding, flowOf(Power.INTERACTIVE)) }
        try {
            await("a speed of these") { shown?.text.orEmpty().run { startsWith("↑ ") && !startsWith("↑ 0") } }
            manager.cancelAll()
            val before = seen.get()
            await("other speeds") { seen.get() > before + 2 }
            assertNull(shown)
            change(null)
            await("the state") { shown?.text == "Waiting for a network" }
        } finally {
            follower.cancel()
        }
    }

    @Test
    fun a_subclass_has_the_last_word() {
        TunnelNotification(Robolectric.buildService(Customised::class.java).get()).goForeground(VpnState.Starting)
        val extras = FakeVpn.foreground.single().first.extras
        assertEquals("VPN of mine: Starting", extras.getString(Notification.EXTRA_TITLE))
    }

    class Customised : AnyTlsVpnService() {
        override fun onNotification(builder: Notification.Builder, state: VpnState, speed: Speed?) {
            builder.setContentTitle("VPN of mine: $state")
        }
    }

    private fun screen(isOn: Boolean) {
        power.setIsInteractive(isOn)
        app.sendBroadcast(Intent(if (isOn) Intent.ACTION_SCREEN_ON else Intent.ACTION_SCREEN_OFF))
    }

    /** 0 where it need not be named. */
    private fun from34(type: Int): Int = if (Build.VERSION.SDK_INT < 34) 0 else type

    private val Notification.text: String? get() = extras.getCharSequence(Notification.EXTRA_TEXT)?.toString()
}
