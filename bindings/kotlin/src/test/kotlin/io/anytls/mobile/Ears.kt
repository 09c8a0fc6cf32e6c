package io.anytls.mobile

import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit

/** A listener that keeps what it hears. [react] is called first, and may throw. */
internal class Ears(private val react: (Event) -> Unit = {}) : EventListener {
    private val events = LinkedBlockingQueue<Event>()

    /** All states that were heard, in their order, those that were waited for too. */
    val states: MutableList<TunnelState> = java.util.Collections.synchronizedList(mutableListOf())

    override fun onEvent(event: Event) {
        if (event is Event.State) states += event.state
        events += event
        react(event)
    }

    /** Passes over events until one of this kind comes. */
    inline fun <reified T : Event> awaitEvent(crossinline isIt: (T) -> Boolean = { true }): T =
        await(T::class.java.simpleName) { (it as? T)?.takeIf(isIt) }

    /** Passes over events until a state of this kind comes. */
    inline fun <reified T : TunnelState> awaitState(crossinline isIt: (T) -> Boolean = { true }): T =
        await(T::class.java.simpleName) { event -> ((event as? Event.State)?.state as? T)?.takeIf(isIt) }

    fun <T : Any> await(what: String, read: (Event) -> T?): T {
        while (true) {
            val event = events.poll(PATIENCE_SECONDS, TimeUnit.SECONDS)
                ?: throw AssertionError("not within $PATIENCE_SECONDS s: $what; heard $states")
            read(event)?.let { return it }
        }
    }

    /** What nobody has waited for yet. */
    fun drain(): List<Event> = mutableListOf<Event>().also(events::drainTo)
}
