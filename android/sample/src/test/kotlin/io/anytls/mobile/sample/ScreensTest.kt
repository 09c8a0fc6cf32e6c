package io.anytls.mobile.sample

import android.content.ClipboardManager
import android.content.ComponentName
import android.content.Intent
import android.content.IntentFilter
import android.content.pm.ApplicationInfo
import android.content.pm.PackageInfo
import android.view.View
import android.widget.CheckedTextView
import io.anytls.mobile.LogLevel
import io.anytls.mobile.LogRecord
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.AppFilter
import io.anytls.mobile.sample.logic.AppMode
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.testing.TestServer
import io.anytls.mobile.testing.await
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowLooper
import java.time.Instant
import java.util.concurrent.TimeUnit

/** The choice of apps, the lists, and the log. */
class ScreensTest : SampleTest() {
    @Test
    fun chosen_apps_are_saved_with_the_config() {
        save(apps = AppFilter.Only(setOf("com.gone")))
        install("org.example.mail", "Mail")
        install("org.example.maps", "Atlas")
        val screen = open(AppsActivity::class.java).get()
        await("the apps") { shown(screen).size == 3 }
        assertEquals(listOf("com.gone (not installed)" to true, "Atlas" to false, "Mail" to false), shown(screen))

        screen.search.setText("mail")
        assertEquals(listOf("Mail" to false), shown(screen))
        tapRow(screen, 0)
        screen.search.setText("")
        tapRow(screen, 0)
        screen.tap(Texts.ALL_BUT_THESE)
        screen.tap(Texts.APPLY)

        await("the end of the screen") { screen.isFinishing }
        assertEquals(AppFilter.Except(setOf("org.example.mail")), saved()?.options?.apps)
        assertEquals("the config stays", CONFIG, saved()?.text)
    }

    @Test
    fun lists_have_the_room_that_others_leave() {
        save()
        val apps = open(AppsActivity::class.java).get()
        val log = open(LogActivity::class.java).get()

        for ((list, below) in listOf(apps.list to apps.apply, log.list to log.level)) {
            val screen = (list.parent as View).height
            assertTrue("${list.height} of $screen", list.height > screen / 3 && list.height > below.height)
            assertTrue("not at the edge", list.left > 0)
        }
    }

    @Test
    fun nothing_chosen_cannot_be_applied() {
        save()
        val screen = open(AppsActivity::class.java).get()
        await("the config") { screen.apply.isEnabled }

        screen.tap(Texts.ONLY_THESE)

        assertEquals(listOf(AppMode.ONLY), screen.modes.filterValues { it.isChecked }.keys.toList())
        assertFalse(screen.apply.isEnabled)
        assertEquals(Texts.CHOOSE_AN_APP, screen.problem.text)
    }

    @Test
    fun a_config_that_came_meanwhile_stays() {
        save()
        install("org.example.mail", "Mail")
        val screen = open(AppsActivity::class.java).get()
        await("the apps") { shown(screen).size == 1 }
        val other = CONFIG.replace("example.com", "other.example")
        save(other)

        screen.tap(Texts.ONLY_THESE)
        tapRow(screen, 0)
        screen.tap(Texts.APPLY)

        await("the end of the screen") { screen.isFinishing }
        assertEquals(other, saved()?.text)
        assertEquals(AppFilter.Only(setOf("org.example.mail")), saved()?.options?.apps)
    }

    @Test
    fun a_turned_phone_keeps_the_choice() {
        save()
        install("org.example.mail", "Mail")
        val controller = open(AppsActivity::class.java)
        await("the apps") { shown(controller.get()).size == 1 }
        controller.get().tap(Texts.ONLY_THESE)
        tapRow(controller.get(), 0)

        controller.recreate()

        await("the apps") { shown(controller.get()) == listOf("Mail" to true) }
        assertTrue(controller.get().modes.getValue(AppMode.ONLY).isChecked)
    }

    @Test
    fun sessions_are_listed_while_the_vpn_is_on() {
        TestServer().use { server ->
            save(server.uri)
            nextTun()
            AnyTlsVpn.start(app)
            deliverStart()
            awaitConnected()

            val screen = open(TrafficActivity::class.java).get()

            assertEquals(Texts.SESSIONS, screen.rows[0].title)
            assertTrue(screen.rows[1].title, screen.rows[1].title.startsWith("Session "))
            assertEquals(Texts.CONNECTIONS, screen.rows[screen.rows.count - 1].title)
            assertTrue("drawn as well", screen.texts().any { "round trip" in it })
        }
    }

    @Test
    fun nothing_is_listed_while_it_is_off() {
        val screen = open(TrafficActivity::class.java).get()

        assertEquals(2, screen.rows.count)
        assertTrue(Texts.NOTHING_OPEN in screen.texts())
    }

    @Test
    fun the_log_is_shown_up_to_the_level_and_follows() {
        app.log.clear()
        val screen = open(LogActivity::class.java).get()
        app.log.log(listOf(record("a session", LogLevel.INFO), record("a heartbeat", LogLevel.DEBUG)), 0u)
        awaitAsTimeGoesBy("the line") { screen.rows.count == 1 }
        assertTrue(screen.texts().any { it.endsWith("a session") })

        screen.level.setSelection(DEBUG_POSITION)
        awaitAsTimeGoesBy("both") { screen.rows.count == 2 }
        assertEquals("kept for the next time", LogLevel.DEBUG, app.logLevel)

        screen.tap(Texts.CLEAR)
        awaitAsTimeGoesBy("none") { screen.rows.count == 0 }
    }

    @Test
    fun the_log_can_be_copied_and_shared() {
        app.log.clear()
        app.log.log(listOf(record("a session", LogLevel.INFO)), 0u)
        val screen = open(LogActivity::class.java).get()

        screen.tap(Texts.COPY)
        val clip = app.getSystemService(ClipboardManager::class.java)!!.primaryClip
        assertTrue(clip!!.getItemAt(0).text.endsWith("INFO test: a session"))

        screen.tap(Texts.SHARE)
        val chooser = shadowOf(screen).nextStartedActivity
        val send = chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)!!
        assertTrue(send.getStringExtra(Intent.EXTRA_TEXT)!!.endsWith("INFO test: a session"))
    }

    @Test
    fun what_the_core_logs_comes_in_and_has_no_secret() {
        app.log.clear()
        val before = app.log.records(LogLevel.INFO).size
        TestServer().use { server ->
            save(server.uri)
            nextTun()
            AnyTlsVpn.start(app)
            deliverStart()
            await("lines of the core") { app.log.records(LogLevel.INFO).size > before }
            val lines = app.log.records(LogLevel.TRACE).map { it.line }
            assertFalse("$lines", lines.any { "password" in it })
        }
    }

    /** Android's clock stands still in tests, and the screen refreshes by it. */
    private fun awaitAsTimeGoesBy(what: String, condition: () -> Boolean) {
        await(what) {
            ShadowLooper.idleMainLooper(1, TimeUnit.SECONDS)
            condition()
        }
    }

    private fun record(line: String, level: LogLevel) = LogRecord(Instant.EPOCH, level, "test", line)

    private fun install(name: String, label: String) {
        val packages = shadowOf(app.packageManager)
        val about = PackageInfo().apply {
            packageName = name
            applicationInfo = ApplicationInfo().apply {
                packageName = name
                nonLocalizedLabel = label
            }
        }
        packages.installPackage(about)
        val activity = ComponentName(name, "$name.Main")
        packages.addActivityIfNotPresent(activity)
        val launcher = IntentFilter(Intent.ACTION_MAIN).apply { addCategory(Intent.CATEGORY_LAUNCHER) }
        packages.addIntentFilterForActivity(activity, launcher)
    }

    /** Names and ticks, as the list's views have them. */
    private fun shown(screen: AppsActivity): List<Pair<String, Boolean>> = (0 until screen.list.adapter.count).map {
        val view = screen.list.adapter.getView(it, null, screen.list) as CheckedTextView
        view.text.toString() to view.isChecked
    }

    private fun tapRow(screen: AppsActivity, position: Int) {
        val view: View = screen.list.adapter.getView(position, null, screen.list)
        screen.list.performItemClick(view, position, position.toLong())
    }

    private companion object {
        const val DEBUG_POSITION = 3
    }
}
