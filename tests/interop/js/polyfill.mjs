// js-libp2p 3 is built for Node 22; Node 20 lacks this one function. Import before anything of libp2p.
if (Promise.withResolvers === undefined) {
  Promise.withResolvers = function withResolvers () {
    const parts = {}
    parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }))
    return parts
  }
}
