// Browsers start no worker from a file. Where the site is opened from a folder, its search runs in a hidden frame:
// this has of Worker what the theme uses (messages both ways, errors, importScripts).
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inner = frame.contentWindow
      this.inner.IFrameWorker = true
      this.inner.postMessage = data => this.deliver(this, data)
      this.inner.importScripts = (...urls) => Promise.all(urls.map(each => this.load(each)))
      this.inner.addEventListener("error", event => this.dispatchEvent(new ErrorEvent("error", event)))
      this.ready = this.load(url)
    }

    load(url) {
      return new Promise((resolve, reject) => {
        const script = this.inner.document.createElement("script")
        script.src = new URL(url, location)
        script.onload = resolve
        script.onerror = reject
        this.inner.document.body.append(script)
      })
    }

    deliver(target, data) {
      const event = new MessageEvent("message", { data: structuredClone(data) })
      if (target.onmessage) target.onmessage(event)
      target.dispatchEvent(event)
    }

    postMessage(data) {
      this.ready = this.ready.then(() => this.deliver(this.inner, data))
    }

    terminate() {
      this.inner.frameElement.remove()
    }
  }
}
