package io.anytls.mobile.android

import android.net.VpnService
import io.anytls.mobile.ConfigSummary
import io.anytls.mobile.Power
import io.anytls.mobile.Tunnel
import io.anytls.mobile.TunnelException
import io.anytls.mobile.parseConfig
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancel
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.job
import kotlinx.coroutines.plus

/** One time that the VPN is up: an interface with the core behind it. Used by the controller's coroutine alone. */
internal class TunnelRun private constructor(
    private val core: Tunnel,
    private var config: VpnConfig,
    private val vpn: VpnInterface,
    private val phone: Phone,
    private val watch: Phone.Watch,
    /** Ends with the run: whoever listens to the core or speaks to it. */
    val scope: CoroutineScope,
) {
    /** There is no VPN to be had. */
    class Refused(val failure: VpnFailure, cause: Exception? = null) : Exception(failure.message, cause)

    val skippedApps: Set<String> get() = vpn.skippedApps
    val power: StateFlow<Power> get() = watch.power

    /** @throws Refused and is over then */
    suspend fun start() {
        phone.tell(core, watch)
        try {
            core.start(config.text, vpn.descriptor.detachFd())
        } catch (e: TunnelException) {
            throw Refused(e.asFailure(), e)
        }
        phone.keepTelling(core, watch, scope)
    }

    /**
     * Goes by another config, with the interface as it is.
     *
     * @return false when that takes another interface
     * @throws Refused when the config cannot be used; the run goes on as it was
     */
    suspend fun follow(other: VpnConfig): Boolean {
        if (other.options != config.options) return false
        try {
            core.reload(other.text)
        } catch (_: TunnelException.TunSettings) {
            return false
        } catch (_: TunnelException.NotStarted) { // the core has given up meanwhile
            return false
        } catch (e: TunnelException) {
            throw Refused(e.asFailure(), e)
        }
        config = other
        return true
    }

    /** Turns the core off, and with it the interface. */
    suspend fun end() {
        scope.coroutineContext.job.cancelAndJoin()
        core.stop()
    }

    /** The end of a run that has not started. */
    fun discard() {
        scope.cancel()
        vpn.descriptor.close() // nothing happens when the core has it already
    }

    companion object {
        /**
         * Opens the interface, which takes the place of the one of a run before this one.
         *
         * @throws Refused when that is not possible; nothing has changed then
         */
        suspend fun open(
            service: AnyTlsVpnService,
            phone: Phone,
            core: Tunnel,
            config: VpnConfig,
            parent: CoroutineScope,
        ): TunnelRun {
            // Asked every time: the user may have chosen another VPN since.
            if (VpnService.prepare(service) != null) throw Refused(VpnFailure.NotPrepared)
            val summary = read(config)
            val scope = parent + Job(parent.coroutineContext.job)
            try {
                val watch = phone.watch(scope)
                val vpn = VpnInterface.open(service, summary, service.adjust(config.options))
                return TunnelRun(core, config, vpn, phone, watch, scope)
            } catch (e: VpnInterface.Refused) {
                scope.cancel()
                throw Refused(VpnFailure.NotEstablished(e.message!!), e)
            }
        }

        private fun read(config: VpnConfig): ConfigSummary = try {
            parseConfig(config.text)
        } catch (e: TunnelException) {
            throw Refused(e.asFailure(), e)
        }
    }
}

private fun TunnelException.asFailure(): VpnFailure = when (this) {
    is TunnelException.Config -> VpnFailure.BadConfig(problems)
    else -> VpnFailure.Core(failure())
}
