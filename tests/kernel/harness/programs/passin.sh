# Opens the private key of the generation whose password is in the file, and prints which that was.
for generation in generation-1 generation-2; do
	openssl pkey -passin file:/secrets/password -in "/tools/$generation.locked" -noout && echo "$generation" && exit
	status=$?
done
exit $status
