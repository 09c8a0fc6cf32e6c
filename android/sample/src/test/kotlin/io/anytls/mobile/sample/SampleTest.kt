package io.anytls.mobile.sample

import android.Manifest
import android.app.Activity
import android.content.ComponentName
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.net.VpnService
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import io.anytls.mobile.TunnelState
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.AnyTlsVpnService
import io.anytls.mobile.android.AppFilter
import io.anytls.mobile.android.VpnConfig
import io.anytls.mobile.android.VpnOptions
import io.anytls.mobile.android.VpnState
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.ShadowNames
import io.anytls.mobile.testing.ShadowNetworks
import io.anytls.mobile.testing.ShadowTunDescriptor
import io.anytls.mobile.testing.ShadowVpn
import io.anytls.mobile.testing.ShadowVpnBuilder
import io.anytls.mobile.testing.TestTun
import io.anytls.mobile.testing.await
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.async
import org.junit.After
import org.junit.Before
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.android.controller.ServiceController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowNetwork

/**
 * The app on a phone: the service is declared, there is a network, the user has agreed to the VPN.
 *
 * Native graphics: Android's own code lays out and draws. The same for all tests, since another mode would be another
 * sandbox with bindings of its own, and the core knows one set of callbacks a process.
 *
 * Not at API 33, where Robolectric 4.17 cannot show a window: a shadow of its own names a class that came later.
 */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(
    sdk = [34, 35],
    application = App::class,
    shadows = [
        ShadowVpn::class,
        ShadowVpnBuilder::class,
        ShadowTunDescriptor::class,
        ShadowNetworks::class,
        ShadowNames::class,
    ],
)
abstract class SampleTest {
    protected val app: App get() = RuntimeEnvironment.getApplication() as App

    private val screens = mutableListOf<ActivityController<*>>()
    private val tuns = mutableListOf<TestTun>()
    private var service: ServiceController<AnyTlsVpnService>? = null

    @Before
    fun phone() {
        FakeVpn.reset()
        FakeVpn.network = ShadowNetwork.newInstance(100)
        shadowOf(app).grantPermissions(Manifest.permission.HIDE_OVERLAY_WINDOWS)
        val name = ComponentName(app, AnyTlsVpnService::class.java)
        val packages = shadowOf(app.packageManager)
        packages.addServiceIfNotPresent(name)
        packages.addIntentFilterForService(name, IntentFilter(VpnService.SERVICE_INTERFACE))
    }

    @After
    fun end() {
        screens.forEach { it.close() }
        AnyTlsVpn.stop()
        awaitState("off") { it == VpnState.Stopped || it is VpnState.Failed }
        service?.destroy()
        tuns.forEach(TestTun::close)
    }

    protected fun save(text: String = CONFIG, apps: AppFilter = AppFilter.All) {
        done { AnyTlsVpn.save(app, VpnConfig(text, VpnOptions(apps = apps))) }
    }

    protected fun saved(): VpnConfig? = done { AnyTlsVpn.savedConfig(app) }

    protected fun <A : Screen> open(screen: Class<A>, intent: Intent? = null): ActivityController<A> =
        Robolectric.buildActivity(screen, intent).also { screens += it }.setup()

    /** The next interface that Android opens. */
    protected fun nextTun(): TestTun = TestTun().also {
        tuns += it
        FakeVpn.tun = it
    }

    /** What Android does when it is asked to start the service, which has to happen. */
    protected fun deliverStart() {
        var request: Intent? = null
        await("the service to be started") {
            request = shadowOf(app).nextStartedService
            request != null
        }
        val service = service ?: Robolectric.buildService(AnyTlsVpnService::class.java).create().also { service = it }
        service.get().onStartCommand(request, 0, 1)
    }

    /** Returns when the VPN is up, and the core has reached the server. */
    protected fun awaitConnected() {
        awaitState("connected") { (it as? VpnState.Up)?.tunnel == TunnelState.Connected }
    }

    private fun awaitState(what: String, fits: (VpnState) -> Boolean) {
        try {
            await(what) { fits(AnyTlsVpn.state.value) }
        } catch (e: AssertionError) {
            throw AssertionError("${e.message}; it is ${AnyTlsVpn.state.value}", e)
        }
    }

    /** The result of something that waits for others, while the main thread goes on. */
    private fun <T> done(block: suspend () -> T): T {
        val result: Deferred<T> = app.scope.async { block() }
        await("a result") { result.isCompleted }
        @Suppress("OPT_IN_USAGE") // it is there
        return result.getCompleted()
    }

    protected companion object {
        const val SECRET = "s3cret-word"
        const val CONFIG = "anytls://$SECRET@example.com:8443/?sni=a.example#Home"
    }
}

/** Everything that can be read on a screen. */
fun Activity.texts(): List<String> = texts(window.decorView)

private fun texts(view: View): List<String> {
    if (view.visibility != View.VISIBLE) return emptyList()
    val own = listOfNotNull((view as? TextView)?.text?.toString(), view.contentDescription?.toString())
    return if (view is ViewGroup) own + view.children().flatMap(::texts) else own
}

/** A tap on what says this. */
fun Activity.tap(text: String) {
    val view = checkNotNull(find(window.decorView, text)) { "nothing says '$text' among ${texts()}" }
    check(view.isEnabled) { "'$text' is disabled" }
    view.performClick()
}

private fun find(view: View, text: String): View? = when {
    view.visibility != View.VISIBLE -> null
    (view as? TextView)?.text?.toString() == text -> view
    view is ViewGroup -> view.children().firstNotNullOfOrNull { find(it, text) }
    else -> null
}

private fun ViewGroup.children(): List<View> = (0 until childCount).map(::getChildAt)

/** The class of the screen that was opened last; null when none was. */
fun Activity.opened(): String? = shadowOf(this).nextStartedActivity?.component?.shortName(this)

private fun ComponentName.shortName(context: Context) = className.removePrefix(context.javaClass.`package`!!.name + ".")
