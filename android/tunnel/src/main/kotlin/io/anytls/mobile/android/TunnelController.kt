package io.anytls.mobile.android

import android.app.Service
import android.os.Handler
import android.os.Looper
import android.util.Log
import io.anytls.mobile.MemoryPressure
import io.anytls.mobile.Tunnel
import io.anytls.mobile.TunnelState
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.channels.BufferOverflow
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import java.io.IOException

/** Decides what the service does. One coroutine, [run], owns the core; everybody else leaves it commands. */
internal class TunnelController(private val service: AnyTlsVpnService, private val shared: Shared) {
    private val store = ConfigStore(service)
    private val phone = Phone(service)
    private val notification = TunnelNotification(service)

    /** Where commands come faster than they are carried out, the latest count. */
    private val commands = Channel<Command>(COMMANDS, BufferOverflow.DROP_OLDEST) { it.settle(shared.state.value) }

    private val main = Handler(Looper.getMainLooper())

    /** Of the last start that Android has passed on; the main thread's. */
    private var latestStartId = NONE

    /** Of the last start that was carried out. */
    private var startId = NONE
    private var current: TunnelRun? = null

    /** Called on the main thread, within the seconds that Android gives a service to go into the foreground. */
    fun start(request: StartRequest?, startId: Int) {
        latestStartId = startId
        val refusal = notification.goForeground(shared.state.value)
        post(Command.Start(request, startId, refusal))
    }

    fun stop(): CompletableDeferred<Unit> = Command.Stop().also(::post).done

    /** Stops, and says why. A [run] that is over has nothing to say any more. */
    fun fail(cause: VpnFailure, run: TunnelRun? = null): Unit = post(Command.Fail(cause, run))

    fun memoryPressure(level: MemoryPressure): Unit = phone.memoryPressure(level)

    /** Carries out commands until it is cancelled. */
    suspend fun run(): Unit = shared.turn.withLock {
        Tunnel(phone.protector).use { core ->
            shared.core.value = core
            try {
                coroutineScope {
                    for (command in commands) {
                        try {
                            handle(command, core)
                        } finally {
                            command.settle(VpnState.Stopped)
                        }
                    }
                }
            } finally {
                shared.core.value = null
                withContext(NonCancellable) {
                    end()
                    core.stop() // a start that was cancelled may have come through
                    shared.state.update { it as? VpnState.Failed ?: VpnState.Stopped }
                }
            }
        }
    }

    /** Answers the commands that nobody will carry out any more, those to come included. */
    fun close() {
        commands.cancel()
    }

    private fun post(command: Command) {
        if (commands.trySend(command).isFailure) command.settle(shared.state.value) // closed
    }

    private suspend fun CoroutineScope.handle(command: Command, core: Tunnel) {
        when (command) {
            is Command.Start -> {
                startId = command.startId
                val request = command.request
                when {
                    request != null -> request.outcome.complete(start(request.config, command.refusal, core))
                    // Called off on the way, or replaced by a start that has come before it and may have failed.
                    current == null -> leave(shared.state.value as? VpnState.Failed ?: VpnState.Stopped)
                }
            }
            is Command.Stop -> {
                end()
                leave(VpnState.Stopped)
            }
            is Command.Fail -> if (command.run == null || command.run === current) {
                end()
                leave(VpnState.Failed(command.cause))
            }
        }
    }

    private suspend fun CoroutineScope.start(wanted: VpnConfig?, refusal: String?, core: Tunnel): VpnState {
        val before = current
        if (before != null && wanted == null) return shared.state.value
        if (before == null) shared.state.value = VpnState.Starting
        try {
            refusal?.let { throw TunnelRun.Refused(VpnFailure.ServiceRefused(it)) }
            val config = wanted ?: load() ?: throw TunnelRun.Refused(VpnFailure.NoConfig)
            if (before == null || !before.follow(config)) open(config, core)
            if (wanted != null) save(wanted)
            return shared.state.value
        } catch (e: TunnelRun.Refused) {
            val failed = VpnState.Failed(e.failure)
            if (current == null) leave(failed) // else what runs goes on as it was
            return failed
        }
    }

    private suspend fun CoroutineScope.open(config: VpnConfig, core: Tunnel) {
        val next = TunnelRun.open(service, phone, core, config, this)
        try {
            end(meanwhile = VpnState.Starting)
            next.start()
            current = next
        } finally {
            if (current !== next) next.discard()
        }
        shared.state.value = VpnState.Up(core.state(), next.skippedApps)
        next.scope.launch { core.states().collect { observe(it, next) } }
        next.scope.launch { notification.follow(shared.state, shared.stats, next.power) }
    }

    private fun observe(state: TunnelState, run: TunnelRun) {
        when (state) {
            // Between runs; the controller has its own word for it.
            TunnelState.Stopped, TunnelState.Stopping -> Unit
            TunnelState.Starting, TunnelState.Connecting, TunnelState.Connected, is TunnelState.Degraded,
            TunnelState.WaitingForNetwork, is TunnelState.Reconnecting, TunnelState.Paused,
            -> shared.state.value = VpnState.Up(state, run.skippedApps)
            is TunnelState.Failed -> if (state.isTrafficBlocked) {
                shared.state.value = VpnState.Up(state, run.skippedApps)
            } else {
                fail(VpnFailure.Core(state.failure), run)
            }
        }
    }

    private suspend fun end(meanwhile: VpnState = VpnState.Stopping) {
        val run = current ?: return
        shared.state.value = meanwhile
        current = null
        run.end()
    }

    /** The service may go, unless Android has passed on another start meanwhile, or is about to pass on the first. */
    private fun leave(last: VpnState) {
        shared.state.value = last
        val id = startId
        // On the thread of start(), so that none comes in between.
        main.post {
            if (id != NONE && id == latestStartId && service.stopSelfResult(id)) {
                service.stopForeground(Service.STOP_FOREGROUND_REMOVE)
            }
        }
    }

    private suspend fun load(): VpnConfig? = withContext(Dispatchers.IO) { store.load() }

    private suspend fun save(config: VpnConfig) = withContext(Dispatchers.IO) {
        try {
            store.save(config)
        } catch (e: IOException) {
            Log.w(TAG, "the config could not be saved: a restart will use the one before", e)
        }
    }

    private companion object {
        /** Nobody presses a switch that often before the first press has had its effect. */
        const val COMMANDS = 16
        const val NONE = -1
    }
}

private sealed interface Command {
    /** Answers whoever waits and has no answer yet: the command was carried out, or never will be. */
    fun settle(state: VpnState)

    class Start(
        /** Null when it was called off on its way to the service. */
        val request: StartRequest?,
        val startId: Int,
        /** Why the service may not be in the foreground; null when it is. */
        val refusal: String?,
    ) : Command {
        override fun settle(state: VpnState) {
            request?.outcome?.complete(state)
        }
    }

    class Stop : Command {
        val done = CompletableDeferred<Unit>()

        override fun settle(state: VpnState) {
            done.complete(Unit)
        }
    }

    class Fail(val cause: VpnFailure, val run: TunnelRun?) : Command {
        override fun settle(state: VpnState) = Unit
    }
}

/** Somebody's wish for a VPN. */
internal class StartRequest(
    /** Null: whatever runs already, else the saved config. */
    val config: VpnConfig?,
    /** [VpnState.Up], or why not. */
    val outcome: CompletableDeferred<VpnState> = CompletableDeferred(),
)
