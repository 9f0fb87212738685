# Reads a private key, and prints which generation's it is.
openssl pkey -in /secrets/tls.key -pubout -out /tmp/found.pub || exit
for generation in generation-1 generation-2; do
	cmp -s /tmp/found.pub "/tools/$generation.pub" && echo "$generation"
done
